//! Messages to phones fit into the parts that they are paid for.

use bindery::domain::language::Language;
use minijinja::{Environment, context};

use super::read;

/// The basic characters of GSM-7 (3GPP TS 23.038, section 6.2.1). One character beyond them makes a message hold 70
/// instead of 160.
const ALPHABET: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";

/// The characters of a message, whose length is their number because all are basic ones.
fn rendered(template: &str) -> usize {
    let server_name = "id.a-long-name-of-some.example";
    assert_eq!(server_name.len(), 30);
    let link = format!("https://{server_name}/me/visit/{}", "t".repeat(22));
    let values = context! { server_name, code => "123456", link };
    let text = Environment::new().render_str(&read(template), values).expect("it renders");
    let others: Vec<char> = text.trim().chars().filter(|c| !ALPHABET.contains(*c)).collect();
    assert!(others.is_empty(), "{template} has {others:?}, which are not in GSM-7");
    text.trim().chars().count()
}

#[test]
fn a_code_comes_in_one_part_and_a_link_in_two() {
    for language in Language::ALL {
        let code = language.as_str();
        for (template, most) in [(format!("sms/{code}.txt"), 160), (format!("sms/{code}.visit.txt"), 2 * 153)]
        {
            let length = rendered(&template);
            assert!(length <= most, "{template} has {length} characters, and {most} fit");
        }
    }
}
