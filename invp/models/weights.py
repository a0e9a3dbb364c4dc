def load_weights(e, o):
    raise SystemExit("x")
