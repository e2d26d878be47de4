"""Small corpora in many languages, from data/corpora.yaml to the splits: the real pair stays, the untranslated goes.

The sentence is the first of article 1 of the Universal Declaration of Human Rights.
"""

import json
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest
import yaml

from transformer.chunks import LocalExecutor
from transformer.data.download.download import download
from transformer.data.prepare.prepare import prepare
from transformer.params import DownloadParams, LanguageParams, load_params

DEFAULT = load_params(Path(__file__).parents[3] / "presets" / "interface-strings.yaml").preparation
ENGLISH = "All human beings are born free and equal in dignity and rights."
UNTRANSLATED = (
    "Everyone is entitled to all the rights and freedoms.",
    "Everyone is entitled to these rights and freedoms.",
)


class Row(NamedTuple):
    """A language as data/corpora.yaml and as params.yaml spell it, and whether English in it is found out."""

    listed: str
    asked: str
    sentence: str
    english_is_wrong: bool = True


ROWS = [
    Row("de", "de", "Alle Menschen sind frei und gleich an Würde und Rechten geboren.", False),
    Row("deu", "de", "Alle Menschen sind frei und gleich an Würde und Rechten geboren.", False),
    Row("de", "deu_Latn", "Alle Menschen sind frei und gleich an Würde und Rechten geboren.", False),
    Row("no", "no", "Alle mennesker er født frie og med samme menneskeverd og menneskerettigheter.", False),
    Row("tr", "tur", "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar.", False),
    Row("vi", "vie", "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi.", False),
    Row("pt-BR", "pt_BR", "Todos os seres humanos nascem livres e iguais em dignidade e em direitos.", False),
    Row("sr", "sr", "Сва људска бића рађају се слободна и једнака у достојанству и правима.", False),
    Row("sr-Latn", "sr_Latn", "Sva ljudska bića rađaju se slobodna i jednaka u dostojanstvu i pravima.", False),
    Row("sr-Cyrl", "srp_Cyrl", "Сва људска бића рађају се слободна и једнака у достојанству и правима."),
    Row("ru", "rus", "Все люди рождаются свободными и равными в своем достоинстве и правах."),
    Row("rus", "rus_Cyrl", "Все люди рождаются свободными и равными в своем достоинстве и правах."),
    Row("uk", "uk", "Всі люди народжуються вільними і рівними у своїй гідності та правах."),
    Row("ba", "bak", "Бөтә кешеләр ҙә ирекле, дәрәжәләре һәм хоҡуҡтары тигеҙ булып тыуалар."),
    Row("kk", "kaz", "Барлық адамдар тумысынан азат және қадір-қасиеті мен құқықтары тең болып дүниеге келеді."),
    Row("mn", "khk_Cyrl", "Хүн бүр төрж мэндлэхэд эрх чөлөөтэй, адилхан нэр төртэй, ижил эрхтэй байдаг."),
    Row("el", "ell", "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα."),
    Row("hy", "hye", "Բոլոր մարդիկ ծնվում են ազատ ու հավասար իրենց արժանապատվությամբ ու իրավունքներով։"),
    Row("ka", "kat", "ყველა ადამიანი იბადება თავისუფალი და თანასწორი თავისი ღირსებითა და უფლებებით."),
    Row("he", "iw", "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם."),
    Row("ar", "arb", "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق."),
    Row("arb_Arab", "ara", "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق."),
    Row("fa", "pes", "تمام افراد بشر آزاد به دنیا می‌آیند و از لحاظ حیثیت و حقوق با هم برابرند."),
    Row("ur", "urd", "تمام انسان آزاد اور حقوق و عزت کے اعتبار سے برابر پیدا ہوئے ہیں۔"),
    Row("ckb", "ckb_Arab", "هەموو مرۆڤەکان بە ئازادی و یەکسان لە کەرامەت و مافەکاندا لەدایک دەبن."),
    Row("dv", "div", "ހުރިހާ އިންސާނުން ވެސް އުފަންވަނީ ދަރަޖައާއި ޙައްޤުތަކުގައި ހަމަހަމަކަން ލިބިގެންނެވެ."),
    Row("hi", "hin_Deva", "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।"),
    Row("mr", "mar", "सर्व मानवी व्यक्ती जन्मतःच स्वतंत्र आहेत व त्यांना समान प्रतिष्ठा व समान अधिकार आहेत."),
    Row("mai", "mai", "सभ मानव जन्मतः स्वतन्त्र अछि तथा गरिमा आ अधिकारमे समान अछि।"),
    Row("bn", "ben", "সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে।"),
    Row("or", "ory_Orya", "ସବୁ ମନୁଷ୍ୟ ଜନ୍ମକାଳରୁ ସ୍ୱାଧୀନ, ସେମାନଙ୍କର ମର୍ଯ୍ୟାଦା ଓ ଅଧିକାର ସମାନ।"),
    Row("pa", "pan", "ਸਾਰਾ ਮਨੁੱਖੀ ਪਰਿਵਾਰ ਆਪਣੀ ਮਹਿਮਾ, ਸ਼ਾਨ ਅਤੇ ਹੱਕਾਂ ਦੇ ਪੱਖੋਂ ਜਨਮ ਤੋਂ ਹੀ ਆਜ਼ਾਦ ਹੈ।"),
    Row("gu", "guj", "પ્રતિષ્ઠા અને અધિકારોની દૃષ્ટિએ સર્વ માનવો જન્મથી સ્વતંત્ર અને સમાન હોય છે."),
    Row("ta", "tam", "மனிதப் பிறவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்; மதிப்பிலும் உரிமைகளிலும் சமமானவர்கள்."),
    Row("te", "tel", "ప్రతిపత్తిస్వత్వముల విషయమున మానవులెల్లరును జన్మతః స్వతంత్రులును సమానులును నగుదురు."),
    Row("kn", "kan", "ಎಲ್ಲಾ ಮಾನವರೂ ಸ್ವತಂತ್ರರಾಗಿಯೇ ಜನಿಸಿದ್ದಾರೆ, ಘನತೆ ಮತ್ತು ಹಕ್ಕುಗಳಲ್ಲಿ ಸಮಾನರಾಗಿದ್ದಾರೆ."),
    Row("ml", "mal", "മനുഷ്യരെല്ലാവരും തുല്യാവകാശങ്ങളോടും അന്തസ്സോടും സ്വാതന്ത്ര്യത്തോടുംകൂടി ജനിച്ചിട്ടുള്ളവരാണ്."),
    Row("si", "sin", "සියලු මනුෂ්‍යයෝ නිදහස්ව උපත ලබා ඇත. ගරුත්වයෙන් හා අයිතිවාසිකම්වලින් සමාන වෙති."),
    Row("th", "tha", "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ"),
    Row("lo", "lao", "ມະນຸດທຸກຄົນເກີດມາມີກຽດສັກສີ ສິດທິ ເສລີພາບ ແລະຄວາມສະເໝີພາບເທົ່າທຽມກັນ"),
    Row("km", "khm_Khmr", "មនុស្សទាំងអស់ កើតមកមានសេរីភាព និងសមភាព ក្នុងផ្នែកសេចក្ដីថ្លៃថ្នូរនិងសិទ្ធិ។"),
    Row("my", "mya", "လူတိုင်းသည် တူညီ လွတ်လပ်သော ဂုဏ်သိက္ခာဖြင့် တူညီလွတ်လပ်သော အခွင့်အရေးများဖြင့် မွေးဖွားလာသည်။"),
    Row("bo", "bod_Tibt", "འགྲོ་བ་མིའི་རིགས་རྒྱུད་ཡོངས་ལ་སྐྱེས་ཙམ་ཉིད་ནས་ཆེ་མཐོངས་དང༌། ཐོབ་ཐང་གི་རང་དབང་འདྲ་མཉམ་ཡོད།"),
    Row("am", "amh", "የሰው ልጅ ሁሉ ሲወለድ ነጻና በክብርና በመብትም እኩልነት ያለው ነው።"),
    Row("zh-Hans", "zh_CN", "人人生而自由，在尊严和权利上一律平等。"),
    Row("zho_Hans", "zh", "人人生而自由，在尊严和权利上一律平等。"),
    Row("zh-Hant", "zh-TW", "人人生而自由，在尊嚴和權利上一律平等。"),
    Row("ja", "jpn_Jpan", "すべての人間は、生まれながらにして自由であり、尊厳と権利とについて平等である。"),
    Row("ko", "kor", "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다."),
    Row("qaa", "qaa", "Ĉiuj homoj naskiĝas liberaj kaj samrajtaj je digno kaj rajtoj.", False),  # a private code
]


@pytest.mark.parametrize("reverse", [False, True], ids=["from English", "to English"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.listed} as {row.asked}")
def test_a_real_pair_stays_and_an_untranslated_one_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: Row, reverse: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    train = [(ENGLISH, row.sentence), UNTRANSLATED]
    for split, pairs in {"train": train, "valid": [("one", "1")], "test": [("two", "2")]}.items():
        for side, language in enumerate(("en", "xx")):
            Path(f"{split}.{language}").write_text("".join(f"{pair[side]}\n" for pair in pairs), encoding="utf-8")
    local = {split: {"en": f"{split}.en", row.listed: f"{split}.xx"} for split in ("train", "valid", "test")}
    Path("corpora.yaml").write_text(yaml.safe_dump({"mine": {"local": local}}))
    pair = (row.asked, "eng") if reverse else ("eng", row.asked)
    download(
        DownloadParams(corpora=["mine"], retries=0, timeout_seconds=1.0),
        LanguageParams(source=pair[0], target=pair[1]),
        Path("corpora.yaml"), Path("raw"), Path("manifest.json"), Path("cache"),
    )  # fmt: skip
    prepare(DEFAULT, Path("raw"), Path("corpus"), Path("report.json"), Path("work"), LocalExecutor(1))

    rows = pq.read_table("corpus/train.parquet").to_pylist()
    expected = train[:1] if row.english_is_wrong else train
    order = ("target", "source") if reverse else ("source", "target")
    assert [tuple(one[side] for side in order) for one in rows] == expected
    removed = json.loads(Path("report.json").read_text())["removed"]
    assert {reason: count for reason, count in removed.items() if count} == (
        {"wrong_script": 1} if row.english_is_wrong else {}
    )
