"""The few named errors. Each message says what failed, where, what was got, what was expected, and the next step."""


class PlatelineError(Exception):
    """Anything Plateline refuses, with a message meant for the person who runs it."""


class ConfigError(PlatelineError, ValueError):
    """A key, value or path in the config or the plate sheet that cannot be meant."""


class SourceError(PlatelineError, ValueError):
    """A source folder that the layout cannot turn into an index."""


class ImageError(PlatelineError, OSError):
    """One image that cannot be read as declared; its field is excluded, the plate goes on."""


class PlatemapError(PlatelineError, ValueError):
    """A plate map that cannot be read as one row per well."""


class LabelError(PlatelineError, ValueError):
    """A label image that does not fit its field or breaks the contract of its method."""


class ModelError(PlatelineError, ValueError):
    """A model file or a training set that does not fit its method."""


class StaleError(PlatelineError, RuntimeError):
    """Pixels or tables that do not belong together; the message names the rule to rerun."""


class StorageError(PlatelineError, OSError):
    """A folder that is full or cannot be written."""


class EditedDuringRun(PlatelineError, RuntimeError):
    """The config, the sheet or the code changed after the run had started."""


class CampaignBusy(PlatelineError, RuntimeError):
    """A campaign that a run may be at work on, where something else would disturb it."""


class FailedPlates(PlatelineError, RuntimeError):
    """Plates that were given up; the run ends non-zero and names them."""
