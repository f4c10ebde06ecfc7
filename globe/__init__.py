__version__ = "0.1.0"


def __getattr__(name):
    "`globe.Geolocator`, loaded when it is asked for, so that `import globe` stays light (PEP 562)."
    if name == "Geolocator":
        from .app.locate import Geolocator
        return Geolocator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__(): return [*globals(), "Geolocator"]
