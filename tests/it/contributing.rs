//! Every path that a document names must exist.

use std::path::Path;

/// The paths in backticks or links of a document that begin with a folder of this project.
fn paths(document: &str) -> Vec<String> {
    let parts = document.split(['`', '(', ')', '#', ' ', '\n', ',', ';']);
    let named = parts.map(|part| part.trim_start_matches("../").trim_end_matches(['.', ':']));
    let folders = ["src/", "tests/", "docs/", "assets/", "benches/", ".ci/"];
    named.filter(|part| folders.iter().any(|folder| part.starts_with(folder))).map(str::to_owned).collect()
}

#[test]
fn every_path_that_a_document_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents = vec![root.join("README.md"), root.join("CONTRIBUTING.md"), root.join("src/lib.rs")];
    for entry in std::fs::read_dir(root.join("docs")).expect("a folder") {
        documents.push(entry.expect("an entry").path());
    }
    let mut missing = Vec::new();
    let mut found = 0;
    for document in documents {
        for path in paths(&std::fs::read_to_string(&document).expect("a document")) {
            found += 1;
            // A name with a placeholder in it is a pattern.
            if !path.contains("_N") && !path.contains(['*', '<', '{']) && !root.join(&path).exists() {
                missing.push(format!("{}: {path}", document.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(found > 60, "the documents name paths: {found}");
}
