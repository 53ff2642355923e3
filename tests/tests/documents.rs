//! The documentation leads nowhere that is not there: relative links, and the headings they name.
#![allow(clippy::unwrap_used, reason = "a test may end by a panic")]

use std::fs;
use std::path::{Path, PathBuf};

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
