"""Cases with known verdicts for `benchmarks.judge_accuracy`: two families of templates that share no wording."""
