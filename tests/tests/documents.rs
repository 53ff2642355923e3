//! The documentation leads nowhere that is not there: relative links, the headings they name, and commands of `skiff`.
#![allow(clippy::unwrap_used, reason = "a test may end by a panic")]

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use images::arguments::Arguments;
use images::image::workspace;

/// All documents, README first.
fn documents() -> Vec<PathBuf> {
    let mut found = vec![workspace().join("README.md")];
    let mut folders = vec![workspace().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found
}

/// The text without its blocks of code.
fn prose(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.split("```").step_by(2).collect()
}

/// What a heading is called in a link: lower case, spaces as hyphens, other punctuation left out.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|letter| letter.is_alphanumeric() || [' ', '-', '_'].contains(letter));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

/// What is wrong with a link in this document, if anything.
fn problem(document: &Path, link: &str) -> Option<String> {
    if link.contains("://") {
        return None;
    }
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    let target = if file.is_empty() { document.to_owned() } else { document.parent().unwrap().join(file) };
    if !target.exists() {
        return Some(format!("{}: {link}: no such file", document.display()));
    }
    let headings =
        || prose(&target).lines().filter(|line| line.starts_with('#')).map(anchor).collect::<Vec<_>>();
    (!heading.is_empty() && !headings().iter().any(|known| known == heading))
        .then(|| format!("{}: {link}: no such heading", document.display()))
}

#[test]
fn every_relative_link_and_heading_in_the_documentation_exists() {
    let (mut problems, mut links) = (Vec::new(), 0);
    for document in documents() {
        for rest in prose(&document).split("](").skip(1) {
            let link = rest.split(')').next().unwrap();
            links += 1;
            problems.extend(problem(&document, link));
        }
    }
    assert!(links > 20, "{links} links were found");
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn a_link_to_nowhere_is_found() {
    let readme = workspace().join("README.md");
    assert!(problem(&readme, "docs/nothing.md").is_some());
    assert!(problem(&readme, "docs/network.md#no-such-heading").is_some());
    assert_eq!(problem(&readme, "docs/network.md#virtio-net"), None);
}

/// The words of a shell command: quotes are understood, and `#` begins a comment.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for letter in command.chars().chain([' ']) {
        match (letter, quote) {
            (_, Some(open)) if letter == open => quote = None,
            (_, Some(_)) => word.push(letter),
            ('\'' | '"', None) => quote = Some(letter),
            ('#', None) if word.is_empty() => break,
            (_, None) if letter.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            (_, None) => word.push(letter),
        }
    }
    words
}

#[test]
fn every_command_of_skiff_in_the_documentation_is_understood() {
    let mut commands = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for (_, command) in text.lines().filter_map(|line| line.split_once("cargo run -- ")) {
            // In prose the command ends with its mark.
            let command = command.split('`').next().unwrap();
            let parsed = Arguments::try_parse_from([vec!["skiff".to_owned()], words(command)].concat());
            assert!(parsed.is_ok(), "{}: {command}: {}", document.display(), parsed.unwrap_err());
            commands += 1;
        }
    }
    assert!(commands > 10, "{commands} commands were found");
}

#[test]
fn words_of_a_command_are_told_apart_as_by_a_shell() {
    assert_eq!(words("run --cmdline 'ip=1 gw=2' \"a b\"  # c"), ["run", "--cmdline", "ip=1 gw=2", "a b"]);
}
