//! The modules that a source names, read from its text: good enough for code that `cargo fmt` has laid out.

use std::collections::BTreeSet;

use super::Modules;

/// The source without comments and without code that only tests compile.
pub(super) fn without_tests(source: &str) -> String {
    let mut kept = String::new();
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        if line.trim_start().starts_with("#[cfg(") && line.contains("test") && !line.contains("not(") {
            skip_item(line, &mut lines);
        } else if let Some((code, _)) = line.split_once("//") {
            kept.push_str(code);
        } else {
            kept.push_str(line);
        }
        kept.push('\n');
    }
    kept
}

/// Skips the item after an attribute, up to the line that ends it at the attribute's indentation.
fn skip_item<'s>(attribute: &str, lines: &mut impl Iterator<Item = &'s str>) {
    let indent = attribute.len() - attribute.trim_start().len();
    for line in lines {
        let depth = line.len() - line.trim_start().len();
        let is_attribute = line.trim_start().starts_with("#[");
        if depth == indent && !is_attribute && line.ends_with([';', '}', ',']) {
            return;
        }
    }
}

/// The modules that the source of `module` names, without `module`: the longest prefix of each path that is a module.
pub(super) fn modules_named(module: &str, source: &str, modules: &Modules) -> BTreeSet<String> {
    let tokens = tokens(source);
    let mut named = BTreeSet::new();
    let mut position = 0;
    while position < tokens.len() {
        let before = position.checked_sub(1).map(|before| tokens[before]);
        let begins = before != Some("::") && matches!(tokens[position], "crate" | "super" | "self");
        if begins {
            read_path(&tokens, &mut position, &mut Vec::new(), &mut |path| {
                named.extend(resolve(module, path, modules));
            });
        } else {
            position += 1;
        }
    }
    named.remove(module);
    named
}

fn tokens(source: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let length = if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (token, others) = rest.split_at(length);
        if !first.is_whitespace() {
            tokens.push(token);
        }
        rest = others;
    }
    tokens
}

/// Reads one path, or a tree of paths, and passes each on with all its words.
fn read_path<'t>(tokens: &[&'t str], position: &mut usize, prefix: &mut Vec<&'t str>, each: &mut impl FnMut(&[&str])) {
    let depth = prefix.len();
    loop {
        match tokens.get(*position) {
            Some(&"{") => {
                *position += 1;
                while tokens.get(*position).is_some_and(|token| *token != "}") {
                    if tokens[*position] == "," {
                        *position += 1;
                    } else {
                        read_path(tokens, position, prefix, each);
                    }
                }
                *position += 1;
                break;
            }
            Some(word) => {
                prefix.push(word);
                *position += 1;
            }
            None => break,
        }
        match tokens.get(*position) {
            Some(&"::") => *position += 1,
            Some(&"as") => {
                *position += 2;
                each(prefix);
                break;
            }
            _ => {
                each(prefix);
                break;
            }
        }
    }
    prefix.truncate(depth);
}

fn resolve(module: &str, path: &[&str], modules: &Modules) -> Option<String> {
    let mut absolute: Vec<&str> = match path[0] {
        "crate" => Vec::new(),
        _ => module.split("::").collect(),
    };
    for word in path {
        match *word {
            "crate" | "self" => {}
            "super" => {
                absolute.pop();
            }
            word => absolute.push(word),
        }
    }
    while !absolute.is_empty() {
        let name = absolute.join("::");
        if modules.contains_key(&name) {
            return Some(name);
        }
        absolute.pop();
    }
    None
}
