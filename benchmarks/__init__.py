"""How fast the engines are: `python -m benchmarks` measures, checks the claims, writes reports/."""
