//! Checks the layers of the code (`src/lib.rs`) by its `use` lines.

use std::path::{Path, PathBuf};

/// Each layer may use those below it.
const LAYERS: &[&[&str]] = &[
    &["domain"],
    &["config", "assets", "metrics", "parts"],
    &["store", "logs"],
    &["ops"],
    &["remote"],
    &["admin", "import"],
    &["http", "tasks"],
    &["app"],
    &["cli"],
];

/// The layer of a module, counted from below; `None` for the two modules that name all others.
fn rank(module: &str) -> Option<usize> {
    (!["main", "lib"].contains(&module)).then(|| rank_of(module))
}

fn rank_of(module: &str) -> usize {
    let rank = LAYERS.iter().position(|layer| layer.contains(&module));
    rank.unwrap_or_else(|| panic!("{module} is in no layer"))
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}

fn module_of(path: &Path) -> String {
    let inside = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).expect("a source");
    let first = inside.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// The top-level modules that a source names after `crate::`.
fn used(source: &str) -> Vec<String> {
    let mut modules = Vec::new();
    for (at, _) in source.match_indices("crate::") {
        let rest = &source[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => modules.push(first_word(rest)),
            Some(group) => {
                let mut depth = 0;
                let mut item = String::new();
                for c in group.chars() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => {
                            modules.push(first_word(&item));
                            item.clear();
                            continue;
                        }
                        _ => {}
                    }
                    item.push(c);
                }
                modules.push(first_word(&item));
            }
        }
    }
    modules.retain(|module| !module.is_empty());
    modules
}

fn first_word(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

#[test]
fn nothing_points_up_or_sideways() {
    let mut wrong = Vec::new();
    for path in sources() {
        let module = module_of(&path);
        let Some(own_rank) = rank(&module) else { continue };
        for other in used(&std::fs::read_to_string(&path).expect("a source")) {
            if other != module && rank_of(&other) >= own_rank {
                wrong.push(format!("{} uses crate::{other}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Only `ops` reads and writes the store, so that the rules about stored data are in one layer.
#[test]
fn nothing_above_ops_uses_the_store() {
    for path in sources() {
        if rank(&module_of(&path)).is_some_and(|rank| rank > rank_of("ops")) {
            let source = std::fs::read_to_string(&path).expect("a source");
            let uses = ["core.store.", "store.read()", "store.write(", "store.scan("];
            let found: Vec<_> = uses.into_iter().filter(|text| source.contains(text)).collect();
            assert!(found.is_empty(), "{} has {found:?}", path.display());
        }
    }
}

#[test]
fn each_outside_crate_stays_in_its_layer() {
    let rules: &[(&str, &[&str])] = &[
        ("actix_web", &["http", "app", "cli"]),
        ("redb", &["store"]),
        ("bincode", &["store"]),
        ("tokio", &["store", "ops", "remote", "tasks", "http", "app", "cli"]),
        ("clap", &["cli"]),
        ("argon2", &["domain"]),
        ("phonenumber", &["domain"]),
        ("prometheus_client", &["metrics"]),
        ("lettre", &["remote"]),
        ("reqwest", &["remote", "cli"]),
        ("minijinja", &["assets", "remote", "http"]),
        ("hickory_resolver", &["remote"]),
        ("rust_embed", &["assets"]),
        ("rusqlite", &["import"]),
        ("indicatif", &["cli"]),
    ];
    for path in sources() {
        let source = std::fs::read_to_string(&path).expect("a source");
        let code: String = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        for (name, allowed) in rules {
            if code.contains(&format!("{name}::")) {
                let module = module_of(&path);
                assert!(allowed.contains(&module.as_str()), "{} names {name}", path.display());
            }
        }
        if code.contains("bincode::") {
            assert!(path.ends_with("store/codec.rs"), "{} names the codec", path.display());
        }
    }
}

#[test]
fn every_source_says_what_it_is_for() {
    for path in sources() {
        let source = std::fs::read_to_string(&path).expect("a source");
        assert!(source.starts_with("//! "), "{} has no first paragraph", path.display());
        let lines = source.lines().count();
        assert!(lines <= 450, "{} has {lines} lines", path.display());
    }
}

#[test]
fn every_dependency_says_why_it_is_here() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest: toml::Table =
        std::fs::read_to_string(root.join("Cargo.toml")).expect("a manifest").parse().expect("TOML");
    let text = std::fs::read_to_string(root.join("docs/dependencies.md")).expect("the document");
    let words: Vec<&str> = text.split(|c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c))).collect();
    for section in ["dependencies", "dev-dependencies"] {
        for name in manifest[section].as_table().expect("a table").keys() {
            assert!(words.contains(&name.as_str()), "{name} is not in docs/dependencies.md");
        }
    }
}
