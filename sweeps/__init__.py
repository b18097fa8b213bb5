"""The sweep engine: space, plan, Optuna search, Ray Tune execution, recording to MLflow."""
