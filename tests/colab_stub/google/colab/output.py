"""The page's side of Colab: which calls were made is kept in `calls`."""

from types import SimpleNamespace

calls = []
_widgets = SimpleNamespace(_installed_url=None)  # anywidget reads it by this private name


def enable_custom_widget_manager(version="5.0.0a"):
    calls.append("enable_custom_widget_manager")
    _widgets._installed_url = "https://example.invalid/manager.min.js"
