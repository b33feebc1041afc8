"""Names, places, streets and numbers of a made-up France, drawn with the frequencies of the real one.

Shapes (data model, 1.2): most frequent family name 0.35 %; most frequent given name from 7 % of those born in the
1920s down to 1.2 % a century later; about 6,000 postcodes. Names follow Mandelbrot's form of Zipf's law,
p(r) ~ 1 / (r + q) ** s, with s = 1 for family names, 2 for given names, and q such that the first has the share
stated. The head of each list are well known names, written down from general knowledge; the rest is made of syllables.
Country and city codes are INSEE's, all other communes are made up. The country is the same for every seed.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, islice
from random import Random
from typing import Final

FAMILY_NAMES: Final = 150_000
TOP_FAMILY_NAME: Final = 0.0045  # of French names: 0.35 % of all
TOP_GIVEN_NAME: Final = {1920: 0.07, 2020: 0.012}  # of one sex, by decade of birth; linear in between
POSTCODES: Final = 6_000

_FAMILY: Final = """martin bernard thomas petit robert richard durand dubois moreau laurent simon michel lefebvre leroy
roux david bertrand morel fournier girard bonnet dupont lambert fontaine rousseau vincent muller lefevre faure andre
mercier blanc guerin boyer garnier chevalier francois legrand gauthier garcia perrin robin clement morin nicolas henry
roussel mathieu gautier masson marchand duval denis dumont marie lemaire noel meyer dufour meunier brun blanchard
giraud joly riviere lucas brunet gaillard barbier arnaud martinez gerard roche renard schmitt roy leroux colin vidal
caron picard roger fabre aubert lemoine renaud dumas lacroix olivier philippe bourgeois pierre benoit rey leclerc payet
rolland leclercq guillaume lecomte lopez jean dupuy guillot hubert berger carpentier sanchez dupuis moulin louis
deschamps huet vasseur perez boucher fleury royer klein jacquet adam paris poirier marty aubry guyot carre charles
renault charpentier menard maillard baron bertin bailly herve schneider fernandez le gall collet leger bouvier julien
prevost millet perrot daniel le roux cousin germain breton besson langlois remy le goff pelletier leveque perrier
leblanc barre lebrun marchal weber mallet hamon boulanger jacob monnier michaud rodriguez guichard gillet etienne
grondin poulain tessier chevallier collin chauvin da silva bouchet gay lemaitre benard marechal humbert reynaud
antoine hoarau perret barthelemy cordier pichon lejeune gilbert lamy delaunay pasquier carlier laporte"""

_COMPOUND_WORDS: Final = frozenset({"le", "da", "de", "du", "la"})

_GIVEN: Final = {
    ("m", 1920): """jean andre pierre rene louis marcel roger robert georges henri raymond maurice lucien paul albert
    charles fernand gaston leon emile jules eugene joseph francois antoine edouard gilbert""",
    ("f", 1920): """marie jeanne madeleine suzanne marguerite yvonne germaine louise denise simone paulette marcelle
    andree lucienne renee odette georgette alice henriette helene raymonde juliette berthe therese lucie""",
    ("m", 1940): """jean michel claude pierre jacques bernard andre daniel gerard alain rene georges christian guy
    francois roger henri serge robert marcel paul raymond gilbert maurice yves roland""",
    ("f", 1940): """marie monique jacqueline francoise nicole michele jeannine denise christiane annie danielle colette
    yvette simone josette bernadette ginette therese liliane genevieve odile huguette eliane arlette""",
    ("m", 1960): """philippe pascal thierry eric patrick laurent michel alain christophe frederic olivier bruno didier
    stephane dominique gilles marc herve denis franck vincent jerome pierre francois regis fabrice""",
    ("f", 1960): """sylvie nathalie catherine isabelle christine valerie corinne veronique martine sandrine brigitte
    patricia florence pascale marie sophie laurence anne chantal veronique stephanie beatrice agnes carole""",
    ("m", 1980): """nicolas julien sebastien guillaume david cedric romain thomas mickael jeremy anthony kevin mathieu
    alexandre maxime benjamin florian arnaud vincent damien jonathan fabien ludovic gregory aurelien clement""",
    ("f", 1980): """aurelie emilie celine julie elodie audrey virginie laetitia stephanie sabrina melanie jennifer
    caroline delphine marion laura pauline camille sarah anais mathilde claire charlotte amandine vanessa""",
    ("m", 2000): """lucas theo thomas hugo maxime enzo antoine clement alexandre quentin mathis nathan louis paul
    baptiste leo romain valentin tom arthur raphael axel noah pierre victor simon""",
    ("f", 2000): """lea manon camille chloe emma marie ines sarah clara lucie jade oceane laura mathilde louise pauline
    lisa julie eva anais romane juliette margaux noemie charlotte elisa""",
    ("m", 2020): """gabriel leo raphael louis arthur jules adam mael lucas hugo noah liam gabin sacha paul nathan aaron
    ethan eden tom leon noe marius mohamed naël isaac""".replace("ë", "e"),
    ("f", 2020): """jade louise emma alice ambre lina rose chloe mia lea anna mila julia romy lou ines lena agathe
    juliette inaya nina zoe iris jeanne eva adele""",
}
_ERAS: Final = (1920, 1940, 1960, 1980, 2000, 2020)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Origin:
    share: float  # of those born abroad
    codes: tuple[str, ...]
    family: str
    m: str
    f: str
    middles: tuple[str, ...]
    ends: tuple[str, ...]


_ORIGINS: Final = {
    "maghreb": _Origin(
        share=0.40,
        codes=("99352", "99350", "99351"),
        family="""saidi benali hamidi haddad mansouri belkacem bouaziz cherif slimani brahimi amrani idrissi alaoui
        trabelsi ben salah zerrouki mebarki khelifi rahmani messaoudi toumi ziani bensaid hadj ali""",
        m="mohamed ahmed ali rachid said karim youssef omar mustapha hassan samir khaled brahim nabil yacine",
        f="fatima khadija aicha samira nadia karima malika zohra yamina leila naima hayat rachida amina salma nour",
        middles=("bel", "bou", "ben", "kha", "ham", "mes", "tal", "zer", "sal", "rah", "mad", "lak"),
        ends=("aoui", "ani", "oudi", "ari", "ache", "ouch", "imi", "idi", "ala", "ouane"),
    ),
    "south": _Origin(
        share=0.24,
        codes=("99139", "99127", "99134", "99114"),
        family="""ferreira pereira da silva dos santos rodrigues goncalves alves fernandes gomes lopes rossi russo
        ferrari romano gonzalez hernandez moreno ruiz ramos pinto carvalho popescu ionescu""",
        m="manuel jose antonio joao carlos luis francisco giuseppe giovanni pedro paulo angelo salvatore andrei mihai",
        f="maria ana rosa isabel carmen teresa lucia fernanda giovanna francesca dolores elena ioana pilar angela",
        middles=("fer", "mar", "cas", "bal", "mon", "sal", "tor", "val", "ro", "per", "gal", "men"),
        ends=("eira", "ini", "ez", "oso", "ado", "elli", "anti", "escu", "ales", "inho"),
    ),
    "africa": _Origin(
        share=0.20,
        codes=("99341", "99335", "99326", "99322", "99312", "99324", "99397", "99333"),
        family="""diallo traore diarra coulibaly keita ba diop ndiaye fall sow cisse toure kone camara mbaye nguema
        mukendi ilunga said rakotomalala ouattara bamba""",
        m="mamadou moussa ibrahima abdoulaye ousmane amadou cheikh souleymane boubacar issa modibo patrice herve jean",
        f="aminata fatoumata mariam awa fatou kadiatou oumou ramatoulaye bintou coumba djeneba grace chantal sira",
        middles=("ka", "ba", "ndi", "mbo", "tou", "sa", "kou", "ma", "di", "lu", "nga", "fo"),
        ends=("ko", "mba", "lo", "re", "kwe", "ssa", "nda", "bou", "lenga", "te"),
    ),
    "elsewhere": _Origin(
        share=0.16,
        codes=("99208", "99216", "99243", "99235", "99109", "99131", "99132", "99122", "99410", "99140"),
        family="""yilmaz kaya demir celik sahin nguyen tran le pham chen wang li zhang wu kumar sivakumar peeters
        janssens smith jones nowak kowalski joseph pierre schmidt""",
        m="mehmet mustafa ali van minh wei jun kumar peter john jan piotr hans ahmet duc thomas paul marc",
        f="fatma ayse thi lan mei li xin priya anna mary ewa petra emine hoa linda maria sarah elisabeth",
        middles=("yil", "kar", "ngu", "tra", "che", "hua", "kow", "van", "schu", "wil", "osa", "pra"),
        ends=("maz", "oglu", "en", "ng", "ski", "er", "man", "son", "ar", "eva"),
    ),
}

_CITIES: Final = """toulouse 31555 31000 500|nice 06088 06000 345|
nantes 44109 44000 320|montpellier 34172 34000 300|strasbourg 67482 67000 290|bordeaux 33063 33000 260|
lille 59350 59000 235|rennes 35238 35000 222|reims 51454 51100 180|toulon 83137 83000 180|saint etienne 42218 42000 173|
le havre 76351 76600 166|grenoble 38185 38000 157|dijon 21231 21000 159|angers 49007 49000 157|
villeurbanne 69266 69100 154|nimes 30189 30000 148|clermont ferrand 63113 63000 147|aix en provence 13001 13100 147|
le mans 72181 72000 145|brest 29019 29200 140|tours 37261 37000 137|amiens 80021 80000 134|annecy 74010 74000 131|
limoges 87085 87000 130|metz 57463 57000 120|boulogne billancourt 92012 92100 120|perpignan 66136 66000 119|
besancon 25056 25000 118|orleans 45234 45000 117|rouen 76540 76000 114|saint denis 93066 93200 113|
montreuil 93048 93100 111|argenteuil 95018 95100 110|mulhouse 68224 68100 108|caen 14118 14000 107|
nancy 54395 54000 105|saint denis 97411 97400 153|fort de france 97209 97200 76|les abymes 97101 97139 53|
cayenne 97302 97300 63|ajaccio 2A004 20000 72|bastia 2B033 20200 48"""
_ARRONDISSEMENTS: Final = (
    ("paris", "751", "750", 20, 2_100),
    ("marseille", "132", "130", 16, 870),
    ("lyon", "693", "690", 9, 520),
)
_LARGE: Final = {"59": 2600, "13": 2050, "69": 1880, "92": 1630, "93": 1650, "94": 1410, "78": 1450, "77": 1430,
                 "91": 1310, "95": 1250, "33": 1630, "31": 1420, "44": 1440, "62": 1460, "76": 1250, "06": 1090,
                 "34": 1180, "38": 1270, "67": 1140, "83": 1080, "35": 1090, "2A": 160, "2B": 180, "48": 77,
                 "971": 380, "972": 360, "973": 290, "974": 870, "976": 300}  # fmt: skip
_OTHER_DEPARTMENT: Final = 480  # thousands of people
_SAINTS: Final = ("martin", "pierre", "jean", "laurent", "germain", "georges", "hilaire", "aubin", "marcel", "andre")
_RIVERS: Final = ("loire", "seine", "marne", "saone", "garonne", "isere", "aisne", "lys", "orne", "vienne", "mer")

_STREETS: Final = """rue de l eglise|place de la mairie|grande rue|rue du moulin|rue de la gare|rue des ecoles|
rue du chateau|avenue de la republique|rue victor hugo|rue de la fontaine|rue jean jaures|rue pasteur|rue du stade|
avenue du general de gaulle|rue de la paix|rue jules ferry|rue des lilas|rue principale|chemin des vignes|
rue du 8 mai 1945|rue du 11 novembre|impasse des roses|rue emile zola|rue gambetta|boulevard voltaire|rue nationale|
allee des tilleuls|rue de verdun|rue des acacias|rue anatole france|route de paris|rue du lavoir|rue saint martin|
place du marche|boulevard jean moulin|rue louis pasteur|rue du general leclerc|avenue jean jaures|rue des jardins|
rue de bretagne|chemin du moulin|rue marcel pagnol|rue pierre curie|impasse du clos|residence les pins"""
_STREET_TYPES: Final = ("rue", "rue", "rue", "avenue", "chemin", "allee", "impasse", "route", "boulevard", "place")
_PROVIDERS: Final = (
    "gmail.com",
    "orange.fr",
    "hotmail.fr",
    "free.fr",
    "yahoo.fr",
    "laposte.net",
    "sfr.fr",
    "wanadoo.fr",
)

_ONSETS: Final = ("b", "br", "c", "ch", "cl", "d", "f", "fr", "g", "gr", "j", "l", "m", "n", "p", "pl", "r", "s", "t",
                  "tr", "v", "gu", "qu", "h", "")  # fmt: skip
_VOWELS: Final = ("a", "e", "i", "o", "u", "ou", "au", "ai", "oi", "an", "on", "in", "en", "eau", "ar", "er", "or")
_FAMILY_ENDS: Final = ("ard", "eau", "et", "ier", "on", "in", "ot", "aud", "el", "ois", "ain", "as", "ez", "ac", "ic",
                       "ault", "ert", "y", "at", "ou", "ant", "elle", "aux", "ene")  # fmt: skip
_GIVEN_ENDS: Final = {
    "m": ("an", "o", "in", "el", "en", "on", "is", "am", "ric", "ien", "or", "ys", "io", "ald"),
    "f": ("a", "ie", "ine", "elle", "ene", "ia", "ane", "ette", "y", "is", "aelle", "ea", "ya"),
}


class Draw:
    """Draws from values with the weights given."""

    def __init__(self, values: Sequence[str], weights: Sequence[float]) -> None:
        self.values = values
        self._bounds = list(accumulate(weights))

    def __call__(self, rng: Random) -> str:
        return self.values[bisect(self._bounds, rng.random() * self._bounds[-1], 0, len(self.values) - 1)]


def mandelbrot(count: int, top: float, exponent: int = 1) -> list[float]:
    """Shares ~ 1 / (rank + q) ** exponent that add up to 1, the first of which is `top` (more than 1 / count)."""

    def below(bound: float) -> float:
        return math.log(bound) if exponent == 1 else bound ** (1 - exponent) / (1 - exponent)

    low, high = 0.0, 1e6
    for _ in range(60):
        q = (low + high) / 2
        total = top * (1 + q) ** exponent * (below(count + q + 0.5) - below(q + 0.5))
        low, high = (q, high) if total < 1 else (low, q)
    weights = [(rank + q) ** -exponent for rank in range(1, count + 1)]
    total = sum(weights)
    return [weight / total for weight in weights]


@dataclass(frozen=True, slots=True, kw_only=True)
class Commune:
    """A place to live in: `code` is INSEE's, five characters; an arrondissement of the three largest cities is one."""

    code: str
    name: str
    postcode: str
    department: str


class Country:
    """Draws names and places; `country()` gives the one there is."""

    def __init__(self) -> None:
        rng = Random("passerelle")  # a fixed seed: the country is a constant
        self._family = {"france": _ranked(_family_names(), FAMILY_NAMES, TOP_FAMILY_NAME)}
        self._given = {
            ("france", sex, decade): self._given_names(rng, sex, decade)
            for sex in "mf"
            for decade in range(1920, 2030, 10)
        }
        for name, origin in _ORIGINS.items():
            self._family[name] = _ranked(_made(rng, _words(origin.family), origin.middles, origin.ends), 2_000, 0.02)
            for sex in "mf":
                known = (origin.m if sex == "m" else origin.f).split()
                draw = _ranked(_made(rng, known, origin.middles, _GIVEN_ENDS[sex]), 400, 0.05, exponent=2)
                self._given |= {(name, sex, decade): draw for decade in range(1920, 2030, 10)}
        self.origins = Draw(tuple(_ORIGINS), [origin.share for origin in _ORIGINS.values()])
        self._places(rng)
        streets = _lines(_STREETS)
        while len(streets) < 5_000:
            streets[f"{rng.choice(_STREET_TYPES)} {rng.choice(_OF)}{_word(rng, rng.choice(_FAMILY_ENDS))}"] = None
        self._streets = Draw(tuple(streets), mandelbrot(len(streets), 0.012))

    def family(self, rng: Random, origin: str) -> str:
        return self._family[origin](rng)

    def given(self, rng: Random, origin: str, sex: str, year: int) -> str:
        """A first name in the fashion of the year of birth; some are compound (`jean pierre`, `anne sophie`)."""
        draw = self._given[origin, sex, min(2020, max(1920, year // 10 * 10))]
        first = draw(rng)
        if origin == "france" and rng.random() < (0.09 if 1935 <= year < 1975 else 0.025):
            initial, second = rng.choice(_FIRST_OF_COMPOUND[sex]), draw(rng)
            return f"{initial} {second}" if initial != second else second
        return first

    def home(self, rng: Random) -> Commune:
        return self._communes[self._by_people(rng)]

    def home_near(self, rng: Random, postcode: str) -> Commune:
        """In the same department."""
        department = self._department_of[postcode]
        return self._communes[self._by_department[department](rng)]

    def birth_place(self, rng: Random, home: Commune, year: int) -> str:
        """Where someone who lives there may be born: in the towns that have a maternity, since 1960."""
        department = home.department if rng.random() < (0.75 if year > 1995 else 0.55) else self.home(rng).department
        draw = self._maternities if year >= 1960 else self._by_department
        return draw[department](rng)

    def abroad(self, rng: Random, origin: str) -> str:
        codes = _ORIGINS[origin].codes
        return codes[int(len(codes) * rng.random() ** 1.6)]

    def address(self, rng: Random) -> tuple[str, str]:
        """(number, street); the number may be empty."""
        if rng.random() < 0.04:
            return "", self._streets(rng)
        number = str(1 + int(90 * rng.random() ** 1.7))
        return (f"{number} bis" if rng.random() < 0.04 else number), self._streets(rng)

    def provider(self, rng: Random) -> str:
        return rng.choice(_PROVIDERS)

    def _given_names(self, rng: Random, sex: str, decade: int) -> Draw:
        era = max(each for each in _ERAS if each <= decade)
        later = min((each for each in _ERAS if each > decade), default=era)
        own, other = _GIVEN[sex, era].split(), _GIVEN[sex, later].split()
        first = own if decade == era else [name for pair in zip(own, other, strict=False) for name in pair]
        fashions = [name for each in _ERAS for name in _GIVEN[sex, each].split()]
        share = (decade - 1920) / 100
        top = TOP_GIVEN_NAME[1920] * (1 - share) + TOP_GIVEN_NAME[2020] * share
        names = _made(rng, [*first, *rng.sample(fashions, len(fashions))], _ONSETS, _GIVEN_ENDS[sex])
        return _ranked(names, 3_000, top, exponent=2)

    def _places(self, rng: Random) -> None:
        people: dict[str, float] = {}
        self._communes: dict[str, Commune] = {}

        def add(code: str, name: str, postcode: str, department: str, weight: float) -> None:
            if code not in self._communes:
                self._communes[code] = Commune(code=code, name=name, postcode=postcode, department=department)
                people[code] = weight

        for name, code, postcode, count, thousands in _ARRONDISSEMENTS:
            for number in range(1, count + 1):
                add(f"{code}{number:02}", name, f"{postcode}{number:02}", code[:2], thousands / count)
        for line in _lines(_CITIES):
            *words, code, postcode, inhabitants = line.split()
            add(code, " ".join(words), postcode, code[:3] if code >= "97" else code[:2], float(inhabitants))
        departments = [
            *(f"{number:02}" for number in range(1, 96) if number != 20),
            "2A",
            "2B",
            *(d for d in _LARGE if d > "970"),
        ]
        for department in departments:
            left = _LARGE.get(department, _OTHER_DEPARTMENT) - sum(
                weight for code, weight in people.items() if code.startswith(department)
            )
            if left <= 0:  # Paris
                continue
            postcodes = _postcodes(rng, department) if len(department) == 2 else _postcodes(rng, department)[:30]
            weights = mandelbrot(len(postcodes) * 3, 0.06)
            for place, weight in enumerate(weights):
                code = f"{department}{place + 1 if len(department) == 3 else place + 600:0{5 - len(department)}}"
                add(code, _commune_name(rng), postcodes[place % len(postcodes)], department, left * weight)
        self._department_of = {commune.postcode: commune.department for commune in self._communes.values()}
        codes = sorted(self._communes)
        self._by_people = Draw(codes, [people[code] for code in codes])
        self._by_department: dict[str, Draw] = {}
        self._maternities: dict[str, Draw] = {}
        for department in {commune.department for commune in self._communes.values()}:
            inside = sorted((c for c in codes if self._communes[c].department == department), key=people.__getitem__)
            self._by_department[department] = Draw(inside, [people[code] for code in inside])
            largest = inside[-6:] if department != "75" else inside
            self._maternities[department] = Draw(largest, [people[code] for code in largest])


@cache
def country() -> Country:
    return Country()


_OF: Final = ("de ", "du ", "des ", "", "", "", "jean ", "paul ", "saint ")
_FIRST_OF_COMPOUND: Final = {"m": ("jean", "jean", "jean", "pierre", "paul"), "f": ("marie", "marie", "anne", "marie")}


def _lines(text: str) -> dict[str, None]:
    return dict.fromkeys(text.replace("\n", "").split("|"))


def _words(text: str) -> list[str]:
    """Names of a list, `le gall` and `da silva` each one of them."""
    names: list[str] = []
    prefix = ""
    for word in text.split():
        if word in _COMPOUND_WORDS:
            prefix += f"{word} "
        else:
            names.append(prefix + word)
            prefix = ""
    return names


def _word(rng: Random, end: str) -> str:
    middle = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(1 if rng.random() < 0.45 else 2))
    return middle + rng.choice(_ONSETS[:-3]) + end


def _family_names() -> Iterator[str]:
    rng = Random("family names")
    yield from _words(_FAMILY)
    while True:
        name = _word(rng, rng.choice(_FAMILY_ENDS))
        kind = rng.random()
        if kind < 0.012:
            yield f"{rng.choice(('de', 'd', 'du', 'de la'))} {name}"
        elif kind < 0.04:
            yield f"le {name}"
        else:
            yield name


def _made(rng: Random, known: Sequence[str], middles: Sequence[str], ends: Sequence[str]) -> Iterator[str]:
    yield from known
    while True:
        yield "".join((rng.choice(middles), rng.choice(_VOWELS), rng.choice(_ONSETS[:-3]), rng.choice(ends)))


def _ranked(names: Iterator[str], count: int, top: float, *, exponent: int = 1) -> Draw:
    return Draw(tuple(islice(dict.fromkeys(islice(names, count * 2)), count)), mandelbrot(count, top, exponent))


def _postcodes(rng: Random, department: str) -> list[str]:
    count = round(POSTCODES / 101 * rng.uniform(0.7, 1.3))
    prefix = "20" if department in ("2A", "2B") else department
    room = range(10 ** (5 - len(prefix)))
    return [f"{prefix}{number:0{5 - len(prefix)}}" for number in rng.sample(room, min(count, len(room) // 2))]


def _commune_name(rng: Random) -> str:
    kind, name = (
        rng.random(),
        _word(rng, rng.choice(("y", "ac", "ville", "court", "igny", "on", "ais", "elles", "eux"))),
    )
    if kind < 0.12:
        return f"saint {rng.choice(_SAINTS)} {rng.choice(('de', 'du', 'sur'))} {name}"
    if kind < 0.24:
        return f"{name} sur {rng.choice(_RIVERS)}"
    return f"{rng.choice(('la', 'le', 'les'))} {name}" if kind < 0.3 else name
