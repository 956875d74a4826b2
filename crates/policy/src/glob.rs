//! Patterns over names and over paths, taken apart once so that matching neither allocates nor backtracks far.

use std::borrow::Cow;

use config::{PathPattern, Pattern};

/// A compiled [`Pattern`]: `*` stands for any run of characters, also none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Glob {
    /// `*`.
    Any,
    /// No star.
    Exact(Box<str>),
    /// Text before the first star, texts between stars, text after the last.
    Parts {
        /// Before the first star.
        first: Box<str>,
        /// Between stars, none empty.
        middle: Box<[Box<str>]>,
        /// After the last star.
        last: Box<str>,
    },
}

impl Glob {
    /// Compile a pattern.
    pub fn new(pattern: &Pattern) -> Self {
        Self::from_text(pattern.as_str())
    }

    fn from_text(text: &str) -> Self {
        let Some((first, rest)) = text.split_once('*') else {
            return Self::Exact(text.into());
        };
        let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
        let middle: Box<[Box<str>]> = middle.split('*').filter(|part| !part.is_empty()).map(Box::from).collect();
        if first.is_empty() && middle.is_empty() && last.is_empty() {
            return Self::Any;
        }
        Self::Parts { first: first.into(), middle, last: last.into() }
    }

    /// Whether `name` matches.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(text) => **text == *name,
            Self::Parts { first, middle, last } => {
                let Some(mut rest) = name.strip_prefix(&**first).and_then(|rest| rest.strip_suffix(&**last)) else {
                    return false;
                };
                // The leftmost place is always good enough: what follows it is longest.
                for part in middle {
                    let Some((_, after)) = rest.split_once(&**part) else {
                        return false;
                    };
                    rest = after;
                }
                true
            }
        }
    }
}

/// A compiled [`PathPattern`]: globs over segments, and `**` for any number of segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PathGlob {
    /// No star.
    Exact(Box<str>),
    /// Segment by segment.
    Segments(Box<[Segment]>),
}

/// One part of a [`PathGlob`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Segment {
    /// One segment.
    One(Glob),
    /// `**`.
    Many,
}

impl PathGlob {
    /// Compile a pattern.
    pub(crate) fn new(pattern: &PathPattern) -> Self {
        Self::from_text(pattern.as_str())
    }

    /// Compile a pattern that is known to be good.
    pub(crate) fn from_text(text: &str) -> Self {
        let segment = |text: &str| match text {
            "**" => Segment::Many,
            one => Segment::One(Glob::from_text(one)),
        };
        if text.contains('*') {
            Self::Segments(text.split('/').map(segment).collect())
        } else {
            Self::Exact(text.into())
        }
    }

    /// Whether `path` matches. It must be in normal form: see [`is_normal`].
    pub(crate) fn matches(&self, path: &str) -> bool {
        let patterns = match self {
            Self::Exact(text) => return **text == *path,
            Self::Segments(patterns) => patterns,
        };
        let (mut patterns, mut segments) = (patterns.iter(), path.split('/'));
        // Where to go on if the part after the last `**` does not fit here: that `**` takes one segment more.
        let mut retry = None;
        loop {
            match (patterns.next(), segments.clone().next()) {
                (None, None) => return true,
                (Some(Segment::Many), _) => {
                    retry = Some((patterns.clone(), segments.clone()));
                    continue;
                }
                (Some(Segment::One(glob)), Some(segment)) if glob.matches(segment) => {
                    segments.next();
                    continue;
                }
                _ => {}
            }
            let Some((after, from)) = &mut retry else {
                return false;
            };
            if from.next().is_none() {
                return false;
            }
            patterns = after.clone();
            segments = from.clone();
        }
    }
}

/// Whether a path has one reading only: no escapes, empty or dot segments, parameters, backslashes or controls.
/// A rule about paths matches no other, so that no spelling gets past it.
pub(crate) fn is_normal(path: &str) -> bool {
    let read = arn_read(path);
    let path = read.as_ref();
    let Some(rest) = path.strip_prefix('/') else {
        return false;
    };
    let body = rest.strip_suffix('/').unwrap_or(rest);
    let plain = |b: u8| b.is_ascii_graphic() && !b"%;\\?#".contains(&b);
    path.bytes().all(plain) && (rest.is_empty() || !body.split('/').any(|s| matches!(s, "" | "." | "..")))
}

/// A path whose `/model/` is named by an ARN, with the slashes it holds escaped: there is no other way to name it in one segment.
/// Read with plain ones it must be normal all the same.
fn arn_read(path: &str) -> Cow<'_, str> {
    const BEFORE: &str = "/model/arn:aws";
    let Some(at) = path.find(BEFORE).map(|at| at + BEFORE.len()) else { return Cow::Borrowed(path) };
    let (before, after) = path.split_at_checked(at).unwrap_or((path, ""));
    let (segment, rest) = after.split_at_checked(after.find('/').unwrap_or(after.len())).unwrap_or((after, ""));
    Cow::Owned([before, &segment.replace("%2F", "/"), rest].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, written down: slow and plain.
    fn naive(pattern: &[char], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), _) => naive(rest, text) || (!text.is_empty() && naive(pattern, &text[1..])),
            (Some((p, rest)), Some((t, after))) => p == t && naive(rest, after),
            _ => false,
        }
    }

    fn naive_path(pattern: &[&str], path: &[&str]) -> bool {
        let chars = |s: &str| s.chars().collect::<Vec<_>>();
        match (pattern.split_first(), path.split_first()) {
            (None, None) => true,
            (Some((&"**", rest)), _) => naive_path(rest, path) || (!path.is_empty() && naive_path(pattern, &path[1..])),
            (Some((p, rest)), Some((s, after))) => naive(&chars(p), &chars(s)) && naive_path(rest, after),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn a_glob_means_what_the_definition_says(pattern in "[ab/*]{0,8}", text in "[ab/]{0,10}") {
            let chars = |s: &str| s.chars().collect::<Vec<_>>();
            prop_assert_eq!(Glob::from_text(&pattern).matches(&text), naive(&chars(&pattern), &chars(&text)));
        }

        #[test]
        fn a_path_glob_means_what_the_definition_says(
            pattern in prop::collection::vec(prop_oneof!["\\*\\*", "[ab*]{0,3}"], 1..6),
            path in prop::collection::vec("[ab]{0,3}", 1..7),
        ) {
            let pattern: Vec<String> = pattern.iter().map(|s| if s == "**" { s.clone() } else { s.replace("**", "*") }).collect();
            let (p, s): (Vec<&str>, Vec<&str>) =
                (pattern.iter().map(String::as_str).collect(), path.iter().map(String::as_str).collect());
            prop_assert_eq!(PathGlob::from_text(&p.join("/")).matches(&s.join("/")), naive_path(&p, &s));
        }
    }

    #[test]
    fn a_star_crosses_slashes_in_names_and_not_in_paths() {
        assert!(Glob::from_text("openai/*").matches("openai/a/b"));
        assert!(PathGlob::from_text("/v1/files/*").matches("/v1/files/f1"));
        assert!(!PathGlob::from_text("/v1/files/*").matches("/v1/files/f1/content"));
        assert!(!PathGlob::from_text("/v1/files/*").matches("/v1/files"));
        assert!(PathGlob::from_text("/v1/files/**").matches("/v1/files/f1/content"));
        assert!(PathGlob::from_text("/v1/files/**").matches("/v1/files"));
        assert!(!PathGlob::from_text("/v1/files/**").matches("/v1/filesystem"));
    }

    #[test]
    fn only_paths_with_one_reading_are_normal() {
        for path in [
            "/",
            "/v1/files",
            "/v1/files/",
            "/v1/models/a:b",
            "/x/a,b=c",
            "/model/arn:aws:bedrock:us-east-1:1:inference-profile%2Fus.x/converse",
        ] {
            assert!(is_normal(path), "{path}");
        }
        for path in [
            "",
            "v1",
            "//",
            "/v1//files",
            "/v1/./files",
            "/v1/../files",
            "/..",
            "/v1/..",
            "/v1/%66iles",
            "/v1;x/files",
            "/v1\\files",
            "/v1/files?x",
            "/v1/files#x",
            "/v1/fi les",
            "/v1/\u{e9}",
            "/v1/files\0",
            "/model/x%2Fy/converse",
            "/model/arn:aws:bedrock%2F..%2Fx/converse",
            "/model/arn:aws:bedrock%2F%2Fx/converse",
            "/model/arn:aws:bedrock%2Fx/%2F/converse",
            "/model/arn:aws:bedrock%2fx/converse",
            "/arn:aws:bedrock%2Fx",
        ] {
            assert!(!is_normal(path), "{path}");
        }
    }
}
