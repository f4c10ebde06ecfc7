__version__ = "0.1.0"

_CHAPTERS = (
    "answers app distillation evaluation figures models photos pipeline places training validation world"
    " cards evaluate files intervals locks markdown progress rewards settings train"
).split()


def lazily(package, **modules):  # name of a package; module -> names that it hands on, separated by blanks
    "`__getattr__` and `__dir__` of a package whose modules load when a name is asked for (PEP 562)."
    from importlib import import_module

    homes = {name: module for module, names in modules.items() for name in names.split()}

    def __getattr__(name):
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return __getattr__, lambda: sorted(homes)


def __getattr__(name):
    "`globe.Geolocator` and the chapters, loaded when asked for, so that `import globe` stays light."
    from importlib import import_module

    if name == "Geolocator":
        return import_module("globe.app.locate").Geolocator
    if name in _CHAPTERS:
        return import_module(f"globe.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), "Geolocator", *_CHAPTERS])
