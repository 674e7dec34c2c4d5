//! What an import needs of `sydent.conf`: the server's name, its signing key, where its database is, and the URL that
//! its invitations name.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{ImportError, ini::Ini};
use crate::domain::{file_error::with_path, secret::Key32, signing::seed_from_base64};

/// The settings of a Sydent.
#[derive(Debug)]
pub struct Settings {
    /// The name that it signs with.
    pub server_name: String,
    /// The identifier of its signing key.
    pub key_id: String,
    /// The seed of its signing key.
    pub seed: Key32,
    /// The file of its database, relative to the directory that Sydent is started in.
    pub database: Option<PathBuf>,
    /// The URL at which homeservers ask for the validity of its keys.
    pub base_url: Option<String>,
}

impl Settings {
    /// Reads the file.
    ///
    /// # Errors
    /// If it cannot be read, or lacks the server's name or its signing key.
    pub fn read(path: &Path) -> Result<Self, ImportError> {
        let wrong = |what: String| ImportError::Settings(path.to_owned(), what);
        let bytes = fs::read(path).map_err(|error| ImportError::File(with_path(path)(error)))?;
        let text = String::from_utf8(bytes).map_err(|_| wrong("is not valid UTF-8".to_owned()))?;
        let ini = Ini::parse(&text).map_err(|line| {
            wrong(format!(
                "line {line} is neither a section like [general] nor a value like server.name = example.org in a section"
            ))
        })?;
        let filled = |section, key| ini.get(section, key).filter(|value| !value.is_empty());
        let server_name = filled("general", "server.name").ok_or_else(|| {
            wrong(
                "has no server.name in [general]; write the name there that Sydent signs with (from SYDENT_SERVER_NAME, or else the host name of its machine)"
                    .to_owned(),
            )
        })?;
        let key = filled("crypto", "ed25519.signingkey").ok_or_else(|| {
            wrong(
                "has no ed25519.signingkey in [crypto]; Sydent writes its key there, so take the file that the running Sydent uses"
                    .to_owned(),
            )
        })?;
        let (key_id, seed) = parse_key(&key).map_err(wrong)?;
        Ok(Self {
            server_name,
            key_id,
            seed,
            database: filled("db", "db.file").map(PathBuf::from),
            base_url: filled("http", "client_http_base"),
        })
    }
}

/// Parses `ed25519 0 <seed in base64>`, or a seed in hexadecimal digits alone, as early versions wrote it.
fn parse_key(text: &str) -> Result<(String, Key32), String> {
    let parts: Vec<&str> = text.split(' ').collect();
    let (version, seed) = match parts[..] {
        [seed] => ("0", from_hex(seed)),
        ["ed25519", version, seed] => (version, seed_from_base64(seed)),
        [algorithm, _, _] if algorithm != "ed25519" => {
            return Err(
                "has a signing key of another algorithm than ed25519; only ed25519 keys can be taken"
                    .to_owned(),
            );
        }
        _ => ("", None),
    };
    let is_version = (1..=32).contains(&version.len())
        && version.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match seed {
        Some(seed) if is_version => Ok((format!("ed25519:{version}"), seed)),
        _ => Err(
            "has a damaged ed25519.signingkey in [crypto]; it is 'ed25519', a version such as 0, and 43 characters of base64, with one space between"
                .to_owned(),
        ),
    }
}

fn from_hex(text: &str) -> Option<Key32> {
    let mut seed = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in seed.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(Key32::new(seed))
}
