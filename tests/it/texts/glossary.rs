//! One word for one thing: the words that no text uses, each with the word that texts use instead.
//!
//! A word that also has a right use is here only in the phrases that are wrong. A link is what one follows, so "link to
//! your account" is wrong. French "message" is an email or a message to a phone, which no test can tell apart.

use bindery::domain::language::Language;

use super::{assert_none, texts};

/// The wrong words, and the right ones. A trailing `*` stands for any ending.
type Rule = (&'static [&'static str], &'static str);

const ENGLISH: &[Rule] = &[
    (&["e-mail*", "mail", "mails"], "email"),
    (&["telephone*"], "phone"),
    // "Proof of identity" is something else.
    (&["prove", "proves", "proved", "proven", "proving"], "confirm"),
    (&["link to your account", "link to your matrix account"], "linked to"),
    (
        &[
            "address leads",
            "address led",
            "leads nowhere",
            "leads to this account",
            "leads to this matrix account",
            "leads to a matrix account",
            "leads to no matrix account",
        ],
        "publish, find, linked to",
    ),
    (&["withdraw*", "take back", "taken back", "takes back"], "remove, cancel"),
    // The right has the law's name, erasure.
    (&["erase", "erased", "erases", "erasing", "forget", "forgets", "forgotten"], "delete"),
    (&["never written to", "be written to"], "opt out, stop all messages"),
    (&["void"], "cancelled"),
    (&["privacy policy"], "privacy notice"),
    (&["agree", "agrees", "agreed", "consent*"], "accept"),
    (&["jumbled"], "scrambled form (hash)"),
    (&["my page", "your page", "your visit", "a visit"], "your data page"),
    (&["request is over", "visit is over", "time is over", "link is over"], "expired"),
    (&["whoever"], "anyone who"),
];

const FRENCH: &[Rule] = &[
    (&["email", "emails", "courriel*", "mail", "mails"], "e-mail"),
    (&["lier", "lié", "liée", "liés", "liées", "lien vers votre compte"], "associer à"),
    // "Vérifier" is right for what we check; "confirmer" is what the owner does.
    (&["prouve*", "prouvé*"], "confirmer"),
    (
        &[
            "adresse mène",
            "adresse menait",
            "adresse ne mène",
            "mène votre adresse",
            "mène nulle part",
            "mène jamais à une adresse",
        ],
        "publier, trouver, associer à",
    ),
    (&["cesser", "cessez"], "retirer"),
    // The right has the law's name, effacement.
    (
        &["effacer", "efface", "effacez", "effaçons", "effacé", "effacée", "effacés", "effacées", "oublié*"],
        "supprimer",
    ),
    (&["écrive plus", "écrirons plus", "écrire plus"], "arrêter tous les messages"),
    (&["accord", "consent*"], "accepter"),
    (&["enregistre", "enregistrons", "enregistré*"], "conserver"),
    (&["brouillé*"], "empreinte"),
    (&["ma page", "votre page", "visite"], "la page de vos données"),
    (&["est terminée", "sont terminées"], "expiré"),
];

const GERMAN: &[Rule] = &[
    (&["email", "emails"], "E-Mail"),
    // "Prüfen" is right for what we check; "bestätigen" is what the owner does.
    (&["nachweisen", "nachweist", "nachgewiesen", "nachzuweisen"], "bestätigen"),
    (
        &[
            "adresse führt*",
            "führt zu diesem konto",
            "führt zu diesem matrix-konto",
            "führt zu einem matrix-konto",
            "führt zu keinem matrix-konto",
            "führt ihre adresse",
            "führt nirgend*",
            "führt nie zu einer adresse",
        ],
        "veröffentlichen, finden, verknüpft",
    ),
    (&["zurücknehmen", "zurückgenommen", "hinfällig", "beenden"], "entfernen, zurückziehen"),
    (&["vergessen", "vergisst"], "löschen"),
    (&["abstellen", "abgestellt"], "alle Nachrichten abbestellen"),
    (&["nachschlagen*", "nachgeschlagen*", "nachzuschlagen"], "suchen"),
    (&["erklärung", "datenschutzerklärung"], "Datenschutzhinweise"),
    // An invitation is accepted with the same word.
    (&["version annehmen", "hinweise annehmen", "zustimm*", "einwillig*"], "akzeptieren"),
    (&["durcheinander*"], "Hash"),
    (&["zugangstoken*"], "Zugriffstoken"),
    (&["meine seite", "ihre seite", "ihrer seite", "besuch"], "Ihre Datenseite"),
    (&["beendet", "zu ende"], "abgelaufen, entfernt"),
];

const SPANISH: &[Rule] = &[
    (&["email", "e-mail", "correo electrónico"], "correo"),
    // "Comprobar" is right for what we check; "confirmar" is what the owner does.
    (&["demostr*", "demuestr*"], "confirmar"),
    (
        &[
            "dirección lleva",
            "dirección no lleva",
            "dirección ya no lleva",
            "dirección llevaba",
            "lleva su dirección",
            "lleva a esta cuenta",
            "lleva nunca a una dirección",
        ],
        "publicar, encontrar, vinculada con",
    ),
    (&["quitar", "quita", "quite", "quitó", "quitado", "quitada"], "retirar"),
    (&["olvida", "olvidar", "olvidada", "olvidado"], "borrar"),
    (&["no escribir", "no volver a escribir", "no se le escriba"], "dejar de recibir mensajes"),
    (&["anulada", "anulado"], "cancelada"),
    (&["aviso de privacidad"], "política de privacidad"),
    (&["consentimiento", "consentir"], "aceptar"),
    (&["revuelt*"], "huella (hash)"),
    (&["mi página", "su página", "visita"], "página de datos"),
    (&["visita ha terminado", "solicitud ha terminado", "terminada"], "caducado"),
];

fn rules(language: Language) -> &'static [Rule] {
    match language {
        Language::En => ENGLISH,
        Language::Fr => FRENCH,
        Language::De => GERMAN,
        Language::Es => SPANISH,
    }
}

/// Whether a text has the wrong words, whole and in any case, other than within the right ones.
fn has(text: &str, wrong: &str, right: &str) -> bool {
    let text = format!(" {} ", words(text).join(" ")).replace(&format!(" {right} "), " … ");
    let wanted: Vec<&str> = wrong.split(' ').collect();
    let is = |(word, wanted): (&&str, &&str)| match wanted.strip_suffix('*') {
        Some(begin) => word.starts_with(begin),
        None => word == wanted,
    };
    let text: Vec<&str> = text.split(' ').collect();
    text.windows(wanted.len()).any(|words| words.iter().zip(&wanted).all(is))
}

/// The words of a text in lower case. A hyphen is a part of its word; an apostrophe ends one.
fn words(text: &str) -> Vec<String> {
    let is_part = |c: char| c.is_alphanumeric() || c == '-';
    let words = text.split(|c: char| !is_part(c)).filter(|word| !word.is_empty());
    words.map(|word| word.to_lowercase()).collect()
}

#[test]
fn one_word_for_one_thing() {
    let mut problems = Vec::new();
    for text in texts() {
        for piece in text.prose().iter().flat_map(|piece| piece.lines()) {
            for (wrong, right) in rules(text.language) {
                for wrong in wrong.iter().filter(|wrong| has(piece, wrong, right)) {
                    let begin: String = piece.trim().chars().take(60).collect();
                    problems.push(format!("{}: '{wrong}', write '{right}', in: {begin}…", text.name));
                }
            }
        }
    }
    problems.dedup();
    assert_none(&problems);
}

#[test]
fn the_rules_find_whole_words_in_any_case() {
    for (text, wrong) in [
        ("Whoever knows it", "whoever"),
        ("One E-mail, two", "e-mail*"),
        ("two e-mails.", "e-mail*"),
        ("l’adresse\u{a0}mène ici", "adresse mène"),
        ("d’accord", "accord"),
        ("Abra su página.", "su página"),
    ] {
        assert!(has(text, wrong, "página de datos"), "{text}: {wrong}");
    }
    assert!(has("a telephone", "telephone*", "phone"));
    for (text, other) in [
        ("an email", "mail"),
        ("an e-mail", "mail"),
        ("avoid it", "void"),
        ("your data page", "your page"),
        ("Abra su página de datos.", "su página"),
    ] {
        assert!(!has(text, other, "página de datos"), "{text}: {other}");
    }
}
