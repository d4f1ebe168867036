"""The networks that studies compare variants of: the quickstart's, with a wider psi."""

from ml_collections import ConfigDict

from configs import quickstart


def get_config() -> ConfigDict:
    """The quickstart with a psi of 0.40 M parameters; a study sets steps and data."""
    config = quickstart.get_config()
    config.model.condition.features = (32, 64, 96)
    return config
