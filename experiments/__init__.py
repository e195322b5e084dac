"""One folder a paper, one script a table or figure; imports hcreg, and nothing imports it."""
