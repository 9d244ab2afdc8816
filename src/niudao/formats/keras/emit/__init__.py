"""From the intermediate representation to Keras layers: `network.emit`, and one file per family of operators."""
