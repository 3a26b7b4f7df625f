"""How fast hash chains are walked, beside what else could walk them."""
