"""What is handed to people: reports on images, cards of models."""

from ._model_card import model_card

__all__ = ["model_card"]
