from tests.library.data.eeg.conftest import eegmat, write_edf  # noqa: F401 - fixtures
