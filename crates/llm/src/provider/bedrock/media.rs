//! Pictures, documents and sounds in Converse's words.

/// `ImageFormat`.
pub(super) fn image_format(media_type: &str) -> Option<&'static str> {
    Some(match media_type {
        "image/png" => "png",
        "image/jpeg" | "image/jpg" => "jpeg",
        "image/gif" => "gif",
        "image/webp" => "webp",
        _ => return None,
    })
}

/// `DocumentFormat`, by the media type or, where that tells nothing, by the title's ending.
pub(super) fn document_format(media_type: &str, title: Option<&str>) -> Option<&'static str> {
    Some(match media_type {
        "application/pdf" => "pdf",
        "text/csv" => "csv",
        "application/msword" => "doc",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document" => "docx",
        "application/vnd.ms-excel" => "xls",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" => "xlsx",
        "text/html" => "html",
        "text/markdown" => "md",
        "" | "application/octet-stream" => {
            let (_, ending) = title?.rsplit_once('.')?;
            FORMATS.into_iter().find(|format| ending.eq_ignore_ascii_case(format))?
        }
        text if text.starts_with("text/") => "txt",
        _ => return None,
    })
}

const FORMATS: [&str; 9] = ["pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md"];

/// `AudioFormat`.
pub(super) fn audio_format(media_type: &str) -> Option<&'static str> {
    Some(match media_type.strip_prefix("audio/")? {
        "wav" | "wave" | "x-wav" => "wav",
        "mp3" | "mpeg" => "mp3",
        "ogg" => "ogg",
        "opus" => "opus",
        "flac" | "x-flac" => "flac",
        "aac" => "aac",
        "mp4" => "mp4",
        "m4a" | "x-m4a" => "m4a",
        "webm" => "webm",
        "pcm" | "l16" => "pcm",
        _ => return None,
    })
}

/// Longest name of a document.
const NAME: usize = 180;

/// Gives every document of a request a name: its title in the characters that are allowed, and none twice.
pub(super) fn names() -> impl FnMut(Option<&str>) -> String {
    let mut given: Vec<String> = Vec::new();
    move |title| {
        let wanted = title.map(plain).filter(|name| !name.is_empty());
        let wanted = wanted.unwrap_or_else(|| format!("Document {}", given.len() + 1));
        let mut name = wanted.clone();
        let mut number = 1;
        while given.contains(&name) {
            number += 1;
            name = format!("{wanted} ({number})");
        }
        given.push(name.clone());
        name
    }
}

/// Letters, digits, hyphens, parentheses, brackets and single spaces; the ending is told by the format.
fn plain(title: &str) -> String {
    let stem = title.rsplit_once('.').filter(|(_, ending)| FORMATS.contains(&ending.to_ascii_lowercase().as_str()));
    let title = stem.map_or(title, |(stem, _)| stem);
    let words: String = title
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '(' | ')' | '[' | ']') { c } else { ' ' })
        .take(NAME)
        .collect();
    words.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_get_names_that_are_allowed_and_none_twice() {
        let mut names = names();
        let mut given = |title| names(title);
        assert_eq!(given(Some("../annual_report 2025.PDF")), "annual report 2025");
        assert_eq!(given(Some("annual report  2025")), "annual report 2025 (2)");
        assert_eq!(given(Some("a.b.txt")), "a b");
        assert_eq!(given(None), "Document 4");
        assert_eq!(given(Some("\u{1f600}")), "Document 5");
        assert!(given(Some(&"x".repeat(500))).len() <= 200);
    }

    #[test]
    fn a_documents_format_is_told_by_its_type_or_its_ending() {
        assert_eq!(document_format("text/x-python", None), Some("txt"));
        assert_eq!(document_format("application/octet-stream", Some("a.XLSX")), Some("xlsx"));
        assert_eq!(document_format("application/octet-stream", Some("a.exe")), None);
        assert_eq!(document_format("application/zip", Some("a.pdf")), None);
    }
}
