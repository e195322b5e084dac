"""What a table shows of a row's predictions: all of them, one route from the mask to a length, or each trimester.

A view takes a recipe and its rows of ``predictions.csv`` and gives the lines of the table: their names and rows.
"""

from hcreg import evaluation


def as_predicted(recipe, rows):
    """One line: what the network is said to measure.

    Parameters
    ----------
    recipe : Recipe
    rows : list of dict

    Returns
    -------
    dict of str to list of dict
    """
    return {recipe.name: rows}


def original(recipe, rows):
    """One line: the mask as it is, without post-processing; see `as_predicted`."""
    return {recipe.name: evaluation.with_route(rows, "original")}


def post_processed(recipe, rows):
    """One line: the ellipse fitted to the mask's largest component; see `as_predicted`."""
    return {recipe.name: evaluation.with_route(rows, "ellipse")}


def by_trimester(recipe, rows):
    """A line for each trimester, of what the network is said to measure; see `as_predicted`."""
    trimesters = sorted({row["trimester"] for row in rows})
    return {
        f"{recipe.name}, trimester {trimester}": [row for row in rows if row["trimester"] == trimester]
        for trimester in trimesters
    }
