"""The commands of `cps`, each of which imports heavy modules only when it runs."""
