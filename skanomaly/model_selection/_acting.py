"""A fitted search acts as the detector that it has chosen."""

from __future__ import annotations

from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted


def _best_has(name):
    def check(search):
        if not search.refit:
            raise AttributeError(
                f"this {type(search).__name__} has refit=False, so that no detector is fitted on "
                f"all images; {name} is there with refit=True"
            )
        if hasattr(search, "best_estimator_"):
            getattr(search.best_estimator_, name)  # whose error says what is missing
        return True

    return check


class ActsAsTheBest:
    """The part of a search that hands calls on to ``best_estimator_``."""

    @available_if(_best_has("predict"))
    def predict(self, X, **parameters):
        """Verdict on each image, of the best detector.

        Parameters
        ----------
        X : batch of images
        **parameters
            Of the detector's method, such as ``roi``.

        Returns
        -------
        ndarray, shape (n,), int64
            +1 for normal, -1 for anomalous.
        """
        check_is_fitted(self)
        return self.best_estimator_.predict(X, **parameters)

    @available_if(_best_has("score_samples"))
    def score_samples(self, X, **parameters):
        """Score of each image, of the best detector.

        Parameters
        ----------
        X : batch of images
        **parameters
            Of the detector's method, such as ``roi``.

        Returns
        -------
        ndarray, shape (n,), float64
            Higher = more normal.
        """
        check_is_fitted(self)
        return self.best_estimator_.score_samples(X, **parameters)

    @available_if(_best_has("decision_function"))
    def decision_function(self, X, **parameters):
        """Score of each image, shifted so that the best detector's threshold is 0.

        Parameters
        ----------
        X : batch of images
        **parameters
            Of the detector's method, such as ``roi``.

        Returns
        -------
        ndarray, shape (n,), float64
            Negative = anomalous.
        """
        check_is_fitted(self)
        return self.best_estimator_.decision_function(X, **parameters)

    @available_if(_best_has("transform"))
    def transform(self, X, **parameters):
        """Anomaly map of each image, of the best detector.

        Parameters
        ----------
        X : batch of images
        **parameters
            Of the detector's method, such as ``roi``.

        Returns
        -------
        ndarray, shape (n, H, W), float32
            Higher = more anomalous.
        """
        check_is_fitted(self)
        return self.best_estimator_.transform(X, **parameters)

    @available_if(_best_has("detect"))
    def detect(self, X, **parameters):
        """Scores, verdicts and maps of the best detector, from one pass.

        Parameters
        ----------
        X : batch of images
        **parameters
            Of the detector's method, such as ``roi``.

        Returns
        -------
        Bunch
        """
        check_is_fitted(self)
        return self.best_estimator_.detect(X, **parameters)

    @available_if(_best_has("p_values"))
    def p_values(self, X, **parameters):
        """Conformal p-value of each image, of the best detector.

        Parameters
        ----------
        X : batch of images
        **parameters
            Of the detector's method, such as ``roi``.

        Returns
        -------
        ndarray, shape (n,), float64, in (0, 1]
        """
        check_is_fitted(self)
        return self.best_estimator_.p_values(X, **parameters)

    @property
    def offset_(self):
        """The best detector's threshold on `score_samples`."""
        return self.best_estimator_.offset_
