//! What the documentation promises of itself: an example on every public method, and the reasons of every error.

use std::fs;
use std::path::{Path, PathBuf};

/// The crate's source files.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("the sources are there") {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// Whether a line begins a public function, method or method template of a macro.
fn is_public_function(line: &str) -> bool {
    let words: Vec<_> = line.split_whitespace().collect();
    words.first() == Some(&"pub")
        && words.iter().skip(1).find(|word| !["const", "unsafe", "async"].contains(word)) == Some(&"fn")
}

/// Each public function of the crate: where it is, its documentation, its signature. Modules that are private as a
/// whole are left out.
fn public_functions() -> Vec<(String, String, String)> {
    let mut functions = Vec::new();
    for path in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        if path.ends_with("sync.rs") {
            continue;
        }
        let source = fs::read_to_string(&path).expect("a source file can be read");
        let lines: Vec<_> = source.lines().collect();
        for (index, line) in lines.iter().enumerate().filter(|(_, line)| is_public_function(line)) {
            let belongs =
                |line: &&&str| line.trim_start().starts_with("///") || line.trim_start().starts_with('#');
            let above: Vec<_> = lines[..index].iter().rev().take_while(belongs).copied().collect();
            let signature: Vec<_> =
                lines[index..].iter().take_while(|line| !line.ends_with(['{', ';'])).copied().collect();
            let place = format!("{}:{}", path.display(), index + 1);
            functions.push((place, above.join("\n"), format!("{}{line}", signature.concat())));
        }
    }
    functions
}

#[test]
fn every_public_method_has_a_runnable_example() {
    let functions = public_functions();
    assert!(functions.len() > 150, "the search finds the crate's functions: {}", functions.len());
    let bare: Vec<_> = functions
        .iter()
        // The documentation of methods from macros comes from where the macro is used.
        .filter(|(_, documentation, _)| !documentation.contains("```"))
        .map(|(place, ..)| place)
        .collect();
    assert!(bare.is_empty(), "without an example: {bare:#?}");
}

#[test]
fn every_public_method_that_can_fail_says_when() {
    let silent: Vec<_> = public_functions()
        .into_iter()
        .filter(|(_, documentation, signature)| {
            signature.contains("-> Result<") && !documentation.contains("# Errors")
        })
        .map(|(place, ..)| place)
        .collect();
    assert!(silent.is_empty(), "errors without a reason: {silent:#?}");
}
