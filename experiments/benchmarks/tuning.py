"""Does a search of many workers lose nothing, what does it cost a trial, and how long does a table take?

python -m experiments.benchmarks.tuning

How good the searches are is measured by `experiments.benchmarks.tuning_search`.
"""

import argparse
import os
import sys
from dataclasses import replace

from experiments.benchmarks import tuning_chaos, tuning_latency, tuning_together
from experiments.benchmarks.common import save
from experiments.benchmarks.postgres_server import PostgresServer
from hcreg.files import write_rows

PARTS = ("disturbed", "training", "overhead", "list", "together")


def disturbed_goals(plans):
    """Searches while workers are killed, connections cut and the server restarted, each on a server of its own.

    Parameters
    ----------
    plans : sequence of experiments.benchmarks.tuning_chaos.Plan

    Returns
    -------
    goals, rows : list of dict
    """
    goals, rows = [], []
    for plan in plans:
        with PostgresServer() as server:
            found, figures = tuning_chaos.run(plan, server)
        rows += found
        goals.append(tuning_chaos.goal_of(plan, found, figures))
    return goals, rows


def training_goals(plan):
    """Training that is killed and gone on with, against the same trained by one worker that nobody disturbs.

    Parameters
    ----------
    plan : experiments.benchmarks.tuning_chaos.Plan
        Of kind "training", with an algorithm that proposes whatever the order.

    Returns
    -------
    goals, rows : list of dict
    """
    quiet = replace(plan, name=f"{plan.name}, one worker", num_workers=1, num_killed=0, cut_s=None, epoch_s=0.0)
    goals, rows = disturbed_goals([plan, quiet])
    disturbed, undisturbed = (
        {row["learning_rate"]: row["objective"] for row in rows if row["search"] == each.name} for each in (plan, quiet)
    )
    largest = max(abs(disturbed[rate] - undisturbed[rate]) for rate in undisturbed if rate in disturbed)
    num_epochs, num_repeated = plan.epochs * plan.max_trials, goals[0]["num_epochs_repeated"]
    goals += [
        {
            "goal": f"{plan.name}: epochs run twice, <= {plan.num_killed}, one a killed worker",
            "measured": float(num_repeated),
            "met": num_repeated <= plan.num_killed,
            "explanation": f"of {num_epochs} epochs of {plan.max_trials} trials",
        },
        {
            "goal": f"{plan.name}: largest difference of an objective from that of one worker, not disturbed, = 0",
            "measured": largest,
            "met": largest == 0 and disturbed.keys() == undisturbed.keys(),
            "explanation": f"{len(undisturbed)} trials, those that were gone on with among them: "
            f"{sum(row['attempts'] > 1 for row in rows)}",
        },
    ]
    return goals, rows


def main(arguments=None):
    """Measure and write results/tuning.json and, of every disturbed trial, results/tuning.csv."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.tuning")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--workers", type=int, default=6, help="of the searches that are disturbed")
    parser.add_argument("--trials", type=int, nargs=2, metavar=("NEAR", "FAR"), default=[30, 12], help="timed")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    goals, rows = [], []
    for part, measure in {
        "disturbed": lambda: disturbed_goals(
            [replace(plan, num_workers=options.workers) for plan in tuning_chaos.PLANS]
        ),
        "training": lambda: training_goals(tuning_chaos.TRAINING),
    }.items():
        if part in options.parts:
            more_goals, more_rows = measure()
            goals, rows = goals + more_goals, rows + more_rows
    if {"overhead", "list"} & set(options.parts):
        with PostgresServer() as server:
            if "overhead" in options.parts:
                goals += tuning_latency.overhead_goals(server, *options.trials)
            if "list" in options.parts:
                goals += tuning_latency.list_goals(server.dsn(), repeats=options.repeats)
    if "together" in options.parts:
        goals.append(tuning_together.together_goal())
    path = save("tuning", goals)
    if rows:
        write_rows(path.with_suffix(".csv"), rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
