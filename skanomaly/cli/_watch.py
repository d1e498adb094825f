"""``skanomaly watch``: images scored as a camera drops them into a folder."""

from __future__ import annotations

import time
from pathlib import Path

import click

from .._rows import counts_of, in_words, key_of, read_rows, row_of
from .._scoring import batch_size_of, judge
from ._app import command, exit_zero, status, trust_pickle
from ._arrivals import Arrivals
from ._folders import check_not_below
from ._growing_table import GrowingTable
from ._models import digest_of, load_detector
from ._output import CommandError, say
from ._pictures import MapFiles
from ._score import OF_ROWS, with_maps_options

# Seconds between looks at the whole folder, for what the system did not tell.
LOOK_EVERY = 60.0


@command(OF_ROWS)
@click.argument("model")
@click.argument("folder")
@click.option(
    "--out", default="scores.csv", metavar="CSV", show_default=True, help="Rows are appended."
)
@with_maps_options
@click.option("--drift", is_flag=True, help="Also watch whether scores change, and say so.")
@click.option(
    "--defect-share",
    type=float,
    default=0.0,
    show_default=True,
    help="With --drift: the largest share of images with defects that is no change.",
)
@click.option("--once", is_flag=True, help="Score what is there already, and end.")
@click.option(
    "--settle",
    type=click.FloatRange(0, 3600),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="A file is complete if it has not changed for so long, or was renamed into place.",
)
@click.option(
    "--patience",
    type=click.FloatRange(0, 86400),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="A file that is no image by then is noted as an error.",
)
@click.option("--poll", is_flag=True, help="Look, instead of waiting for word: network folders.")
@exit_zero
@trust_pickle
def watch(
    output,
    model,
    folder,
    out,
    maps,
    map_format,
    drift,
    defect_share,
    once,
    settle,
    patience,
    poll,
    exit_zero,
    trust_pickle,
):
    """Score images as they come into FOLDER and its sub-folders, until a signal ends it.

    No file is scored while it is written. Rows are on the disk before the next image is looked
    at, and files that have rows in CSV are not scored again. Ctrl-C and SIGTERM are how it ends:
    the exit status is that of what was found.
    """
    if out == "-":
        raise CommandError("--out: rows are appended to a file, which - is none; name one")
    detector = load_detector(model, trust_pickle)
    digest = digest_of(model)
    if not Path(folder).is_dir():
        raise CommandError(f"{folder} is no folder; make it, or check the path")
    map_files = None
    if maps:
        check_not_below(folder, maps, "--maps")
        map_files = MapFiles(maps, map_format, detector)
    with GrowingTable(out).open() as table:
        watching = _Watching(output, detector, digest, table, map_files)
        if drift:
            watching.begin_monitor(defect_share)
        arrivals = Arrivals(folder, watching.is_done, settle, patience)
        output.report(f"Watching {folder}; {len(table.rows)} rows in {out}")
        try:
            for _ in _ticks(arrivals, folder, once, poll):
                while found := arrivals.ready(batch_size_of(detector)):
                    watching.take(found)
        except KeyboardInterrupt:
            pass  # how it ends
    return watching.conclude(model, out, exit_zero)


def _ticks(arrivals, folder, once, poll):
    """Come back whenever files may have become complete."""
    if once:
        arrivals.look()
        while True:
            yield
            if not len(arrivals):
                return
            time.sleep(0.05)
    from watchfiles import watch as changes_of

    wait = int(1000 * min(max(arrivals.settle / 4, 0.05), 0.5))
    looked = None
    for changes in changes_of(
        folder,
        watch_filter=None,
        debounce=50,
        step=10,
        rust_timeout=wait,
        yield_on_timeout=True,
        force_polling=poll or None,
    ):
        # Not before it listens, or what comes in between would be missed.
        if looked is None or time.monotonic() - looked > LOOK_EVERY:
            arrivals.look()
            looked = time.monotonic()
        for _, path in changes:
            arrivals.hear_of(path)
        yield
        if not Path(folder).is_dir():
            raise CommandError(f"{folder} is gone; what was scored is in the table")


class _Watching:
    """What has been found so far."""

    def __init__(self, output, detector, digest, table, map_files):
        self.output, self.detector, self.digest = output, detector, digest
        self.table, self.map_files, self.monitor = table, map_files, None
        self.done = {key_of(row) for row in table.rows}
        self.n_before = len(table.rows)

    def begin_monitor(self, defect_share):
        """Watch for drift; rows of this model that are there count as seen."""
        from ..calibration import DriftMonitor

        self.monitor = DriftMonitor(self.detector, defect_share=defect_share, random_state=0).fit()
        for row in self.table.rows:
            if row["model"] == self.digest[:12] and row["score"] is not None:
                self.monitor.update(-row["score"])
        if self.monitor.alarm_:
            say(f"drift: {self.monitor.summary()}")

    def is_done(self, name, stamp):
        """Whether a file has its row."""
        blank = row_of(name, stamp, None, None, self.detector, self.digest)
        return key_of(blank) in self.done

    def take(self, arrivals):
        """Score files that are complete, and write their rows."""
        readable = [arrival for arrival in arrivals if arrival.error is None]
        judged = iter(judge(self.detector, [arrival.image for arrival in readable]))
        rows = []
        for name, stamp, image, error in arrivals:
            found = None
            if error is None:
                found, error = next(judged)
            if found is not None and self.map_files is not None:
                error = self.map_files.save(name, image, found[2], found[0])
            rows.append(row_of(name, stamp, found, error, self.detector, self.digest))
        self.table.append(rows)
        for row in rows:
            self.done.add(key_of(row))
            self._tell(row)

    def _tell(self, row):
        if row["error"] is not None:
            say(f"{row['file']}: {row['error']}")
        if row["verdict"] is None:
            return
        times = row["times_threshold"]
        much = f"score {row['score']:.4g}" if times is None else f"{times:.2f} x threshold"
        self.output.report(f"{row['verdict']} {row['file']}: {much}")
        if self.monitor is not None:
            before = self.monitor.alarm_
            self.monitor.update(-row["score"])
            if self.monitor.alarm_ and not before:
                say(f"drift: {self.monitor.summary()}")

    def conclude(self, model, out, exit_zero):
        """Say what was found; the exit status."""
        # From the file: a signal may have come just after rows were written.
        rows = read_rows(self.table.path)[0][self.n_before :]
        alarm = self.monitor is not None and self.monitor.alarm_
        summary = None if self.monitor is None else self.monitor.summary()
        drift = None if summary is None else {"alarm": alarm, "summary": summary}
        counts = counts_of(rows)
        self.output.report(in_words(counts, out))
        if summary is not None:
            self.output.report(summary)
        self.output.document(
            {"model": model, "sha256": self.digest, **counts, "out": out, "drift": drift}
            | {"images": rows}
        )
        return status(counts["n_flagged"] + alarm, counts["n_failed"], exit_zero)
