def run(section, seed, stages, graphs, dataset, out, record):
    out.write_text("<html>" + "x" * 20000)
