//! Forms with files (`multipart/form-data`, RFC 7578): read strictly, and changed in one place only.
//!
//! A form that two readers could cut differently would let a caller show this gateway one model and the provider another.
//! So every occurrence of the delimiter has to be a delimiter, nothing stands before the first or after the last, lines
//! end in CRLF, and a part says once, in one spelling, what it is called.

use std::borrow::Cow;
use std::ops::Range;

use super::request::{fold, refuse_steering};
use crate::RequestError;

/// Most parts of one form.
const PARTS: usize = 256;
/// Longest header of one part, in bytes.
const HEADER: usize = 8 * 1024;
/// Most header fields of one part.
const FIELDS: usize = 16;
/// Longest boundary (RFC 2046 section 5.1.1).
const BOUNDARY: usize = 70;
/// Longest name of a model, in bytes.
const MODEL: usize = 256;

/// Why a form is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// Not declared as a form with one well-formed boundary.
    #[error("the Content-Type is not multipart/form-data with one boundary")]
    Boundary,
    /// Delimiters that are not where they have to be.
    #[error("the form is not cut by its boundary and by nothing else (byte {0})")]
    Delimiter(usize),
    /// The header of a part is not what it has to be.
    #[error("the header of a part cannot be read (byte {0})")]
    Header(usize),
    /// More parts, or a longer header, than anybody sends.
    #[error("the form has too many parts, or too long a header")]
    TooLarge,
}

impl FormError {
    /// A stable code for metrics, logs and the caller.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Boundary | Self::Delimiter(_) | Self::Header(_) => "invalid_form",
            Self::TooLarge => "form_too_large",
        }
    }
}

/// A part of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    name: String,
    is_file: bool,
    /// Whether its type says that its text is in another encoding than UTF-8.
    foreign: bool,
    content: Range<usize>,
}

/// A form that has been looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    delimiter: Vec<u8>,
    parts: Vec<Part>,
    model: Option<(String, Range<usize>)>,
    stream: bool,
}

impl Form {
    /// Read `body` as a form of this `Content-Type`, and what of it the gateway must know.
    pub fn read(content_type: &[u8], body: &[u8]) -> Result<Self, RequestError> {
        let boundary = boundary(content_type).ok_or(FormError::Boundary)?;
        let delimiter = [b"--", boundary.as_slice()].concat();
        let parts = parts(&delimiter, body)?;
        let mut form = Self { delimiter, parts, model: None, stream: false };
        let mut seen: Option<(String, Range<usize>)> = None;
        for part in &form.parts {
            let root = part.name.split(['[', '.']).next().unwrap_or_default();
            // Some readers take `model[]` for `model`.
            if root != part.name && matches!(&*fold(root), "model" | "stream") {
                return Err(forbidden(&part.name, "it could be taken for another field"));
            }
            refuse_steering(root)?;
            match part.name.as_str() {
                "_charset_" => return Err(forbidden("_charset_", "text is UTF-8")),
                "model" if seen.is_some() => return Err(forbidden("model", "it is there twice")),
                "model" => {
                    let name = text(body, part).filter(|name| is_model(name));
                    let name = name.ok_or_else(|| RequestError::wrong("model", "the name of a model"))?;
                    seen = Some((name.to_owned(), part.content.clone()));
                }
                "stream" => {
                    let value = text(body, part).unwrap_or_default().trim().to_ascii_lowercase();
                    form.stream = matches!(value.as_str(), "true" | "1");
                }
                _ => {}
            }
        }
        form.model = seen;
        Ok(form)
    }

    /// The model asked for.
    pub fn model(&self) -> Option<&str> {
        self.model.as_ref().map(|(name, _)| name.as_str())
    }

    /// Whether a streamed answer is asked for.
    pub fn stream(&self) -> bool {
        self.stream
    }

    /// The first field of this name in the very body that was read: its text, if it is some.
    pub fn text<'b>(&self, body: &'b [u8], name: &str) -> Option<&'b str> {
        std::str::from_utf8(self.content(body, name)?).ok()
    }

    /// The first field of this name in the very body that was read.
    pub fn content<'b>(&self, body: &'b [u8], name: &str) -> Option<&'b [u8]> {
        body.get(self.parts.iter().find(|part| part.name == name)?.content.clone())
    }

    /// The names of its fields, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|part| part.name.as_str())
    }

    /// The very body that was read, with this model in it; every other byte stays. `None`: the model's name cannot stand in
    /// a form of this boundary.
    pub fn with_model(&self, body: &[u8], model: &str) -> Option<Vec<u8>> {
        let collides = memchr::memmem::find(model.as_bytes(), &self.delimiter).is_some();
        if collides || !is_model(model) {
            return None;
        }
        let mut out = Vec::with_capacity(body.len() + model.len() + 128);
        if let Some((_, at)) = &self.model {
            out.extend_from_slice(body.get(..at.start)?);
            out.extend_from_slice(model.as_bytes());
            out.extend_from_slice(body.get(at.end..)?);
        } else {
            out.extend_from_slice(&self.delimiter);
            out.extend_from_slice(b"\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n");
            out.extend_from_slice(model.as_bytes());
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(body);
        }
        Some(out)
    }
}

fn forbidden(param: &str, why: &'static str) -> RequestError {
    RequestError::Forbidden { param: param.chars().take(64).collect(), why }
}

/// Whether a text may stand where a model is named: no control character, so that it ends no line.
fn is_model(name: &str) -> bool {
    !name.is_empty() && name.len() <= MODEL && !name.chars().any(char::is_control)
}

/// The text of a field that is no file.
fn text<'b>(body: &'b [u8], part: &Part) -> Option<&'b str> {
    let bytes = body.get(part.content.clone()).filter(|_| !part.is_file && !part.foreign)?;
    std::str::from_utf8(bytes).ok()
}

/// The one boundary a `Content-Type` names.
fn boundary(content_type: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(content_type).ok()?;
    let (kind, parameters) = text.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let mut boundary = None;
    for (name, value) in parameters_of(parameters)? {
        match name.as_str() {
            "boundary" => boundary = Some(value.into_owned()),
            "charset" => {}
            _ => return None,
        }
    }
    let boundary = boundary?;
    // `bcharsnospace` and, inside, space (RFC 2046 section 5.1.1).
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
    let length = (1..=BOUNDARY).contains(&boundary.len());
    (length && boundary.bytes().all(fits) && !boundary.ends_with(' ')).then(|| boundary.into_bytes())
}

/// Parameters as `name=value; name="value"`, each name once; `None` for everything that could be read in two ways.
fn parameters_of(text: &str) -> Option<Vec<(String, Cow<'_, str>)>> {
    let mut found: Vec<(String, Cow<'_, str>)> = Vec::new();
    let mut rest = text;
    loop {
        let (name, after) = rest.split_once('=')?;
        let name = name.trim().to_ascii_lowercase();
        if name.is_empty() || !name.bytes().all(is_token) || found.iter().any(|(known, _)| *known == name) {
            return None;
        }
        let (value, after) = if let Some(quoted) = after.strip_prefix('"') {
            // One reader ends the value at an escaped quote, another goes on.
            quoted.split_once('"').filter(|(value, _)| !value.ends_with('\\'))?
        } else {
            let (value, after) = after.split_at(after.find(';').unwrap_or(after.len()));
            let value = value.trim_end();
            if value.is_empty() || !value.bytes().all(is_token) {
                return None;
            }
            (value, after)
        };
        found.push((name, Cow::Borrowed(value)));
        match after.trim() {
            "" => return Some(found),
            after => rest = after.strip_prefix(';')?,
        }
    }
}

/// `tchar` (RFC 9110 section 5.6.2), and what unquoted boundaries hold besides.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/?()".contains(&byte)
}

/// Cut `body` into its parts.
fn parts(delimiter: &[u8], body: &[u8]) -> Result<Vec<Part>, FormError> {
    let mut found: Vec<Part> = Vec::new();
    // Where the content of the part that is open begins, once its header has been read.
    let mut open: Option<(String, bool, bool, usize)> = None;
    let mut next = 0;
    for at in memchr::memmem::find_iter(body, delimiter) {
        let misplaced = FormError::Delimiter(at);
        // Header and delimiter must not overlap: what is before `next` has been read.
        let content_end = if at == 0 { 0 } else { at.checked_sub(2).filter(|end| *end >= next).ok_or(misplaced)? };
        if at > 0 && body.get(content_end..at) != Some(b"\r\n") {
            return Err(misplaced);
        }
        match open.take() {
            Some((name, is_file, foreign, start)) => {
                found.push(Part { name, is_file, foreign, content: start..content_end });
            }
            None if at == 0 => {}
            None => return Err(misplaced),
        }
        let after = at + delimiter.len();
        let rest = body.get(after..).unwrap_or_default();
        if let Some(end) = rest.strip_prefix(b"--") {
            return if matches!(end, b"" | b"\r\n") && !found.is_empty() { Ok(found) } else { Err(misplaced) };
        }
        if !rest.starts_with(b"\r\n") {
            return Err(misplaced);
        }
        if found.len() >= PARTS {
            return Err(FormError::TooLarge);
        }
        let header = after + 2;
        let (name, is_file, foreign, length) = head(rest.get(2..).unwrap_or_default(), header)?;
        next = header + length;
        open = Some((name, is_file, foreign, next));
    }
    Err(FormError::Delimiter(body.len()))
}

/// The header of a part: its name, whether it is a file, whether its text is in another encoding, and how long the header is
/// with the empty line after it.
fn head(rest: &[u8], at: usize) -> Result<(String, bool, bool, usize), FormError> {
    let wrong = FormError::Header(at);
    let window = rest.get(..HEADER.min(rest.len())).unwrap_or_default();
    let length = memchr::memmem::find(window, b"\r\n\r\n");
    let length = length.ok_or(if rest.len() > HEADER { FormError::TooLarge } else { wrong })?;
    let text = window.get(..length).and_then(|header| std::str::from_utf8(header).ok()).ok_or(wrong)?;
    let mut disposition = None;
    let (mut kinds, mut foreign) = (0, false);
    for (count, line) in text.split("\r\n").enumerate() {
        if count >= FIELDS {
            return Err(FormError::TooLarge);
        }
        let (name, value) = line.split_once(':').ok_or(wrong)?;
        if name.is_empty() || !name.bytes().all(is_token) || line.bytes().any(|b| b < 0x20 && b != b'\t') {
            return Err(wrong);
        }
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-disposition" if disposition.is_none() => disposition = Some(value),
            "content-disposition" => return Err(wrong),
            "content-type" => {
                kinds += 1;
                let kind = value.to_ascii_lowercase();
                let charset = kind.split_once("charset=").map(|(_, set)| set.trim_matches(['"', ' ']));
                foreign = charset.is_some_and(|set| !matches!(set, "utf-8" | "us-ascii"));
                // A form in a form is a mail's, not ours.
                if kind.starts_with("multipart/") {
                    return Err(wrong);
                }
            }
            "content-transfer-encoding" if !is_as_it_is(value) => return Err(wrong),
            _ => {}
        }
    }
    if kinds > 1 {
        return Err(wrong);
    }
    let (name, is_file) = disposition.and_then(named).ok_or(wrong)?;
    Ok((name, is_file, foreign, length + 4))
}

fn is_as_it_is(encoding: &str) -> bool {
    ["7bit", "8bit", "binary"].iter().any(|known| encoding.eq_ignore_ascii_case(known))
}

/// The name in `form-data; name="..."`, and whether it is a file's.
fn named(disposition: &str) -> Option<(String, bool)> {
    let (kind, parameters) = disposition.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("form-data") {
        return None;
    }
    let (mut name, mut is_file) = (None, false);
    for (parameter, value) in parameters_of(parameters)? {
        match parameter.as_str() {
            "name" => name = Some(value.into_owned()),
            "filename" | "filename*" => is_file = true,
            // In other encodings or in pieces, a name has several spellings (RFC 7578 section 4.2 forbids them).
            _ => return None,
        }
    }
    let name = name.filter(|name| !name.is_empty() && !name.contains(['%', '\\']))?;
    Some((name, is_file))
}

impl From<FormError> for RequestError {
    fn from(error: FormError) -> Self {
        Self::Form(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TYPE: &[u8] = b"multipart/form-data; boundary=b0";

    fn part(header: &str, content: &str) -> String {
        format!("--b0\r\n{header}\r\n\r\n{content}\r\n")
    }

    fn field(name: &str, content: &str) -> String {
        part(&format!("Content-Disposition: form-data; name=\"{name}\""), content)
    }

    fn form(parts: &[String]) -> Vec<u8> {
        format!("{}--b0--\r\n", parts.concat()).into_bytes()
    }

    fn file(content: &str) -> String {
        part("Content-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav", content)
    }

    #[test]
    fn the_model_is_found_and_replaced_and_every_other_byte_stays() {
        let body = form(&[file("R\0I\r\nFF--b"), field("model", "whisper-1"), field("stream", "True")]);
        let read = Form::read(TYPE, &body).unwrap();
        assert_eq!((read.model(), read.stream()), (Some("whisper-1"), true));
        assert_eq!(read.names().collect::<Vec<_>>(), ["file", "model", "stream"]);
        let changed = read.with_model(&body, "gpt-4o-transcribe").unwrap();
        assert_eq!(
            changed,
            form(&[file("R\0I\r\nFF--b"), field("model", "gpt-4o-transcribe"), field("stream", "True")])
        );
        assert_eq!(Form::read(TYPE, &changed).unwrap().model(), Some("gpt-4o-transcribe"));
    }

    #[test]
    fn a_model_that_is_left_out_is_put_in_front() {
        let body = form(&[field("prompt", "a cat")]);
        let changed = Form::read(TYPE, &body).unwrap().with_model(&body, "dall-e-2").unwrap();
        assert_eq!(changed, form(&[field("model", "dall-e-2"), field("prompt", "a cat")]));
    }

    #[test]
    fn boundaries_are_taken_as_clients_write_them() {
        for kind in [
            "multipart/form-data; boundary=b0",
            "Multipart/Form-Data;boundary=\"b0\"",
            "multipart/form-data; charset=utf-8; Boundary=b0",
        ] {
            assert!(Form::read(kind.as_bytes(), &form(&[field("a", "b")])).is_ok(), "{kind}");
        }
        for kind in [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=b0; boundary=b1",
            "multipart/form-data; boundary=b0; x=y",
            "multipart/form-data; boundary=\"b0 \"",
            "multipart/form-data; boundary=\"b\\\"0\"",
            "multipart/form-data; boundary=b\u{e9}",
            "multipart/mixed; boundary=b0",
            "application/json",
        ] {
            let error = Form::read(kind.as_bytes(), &form(&[field("a", "b")])).unwrap_err();
            assert_eq!(error.reason(), "invalid_form", "{kind}");
        }
        let long = format!("multipart/form-data; boundary={}", "b".repeat(71));
        assert!(Form::read(long.as_bytes(), b"").is_err());
    }

    #[test]
    fn a_form_that_readers_could_cut_differently_is_refused() {
        let whole = String::from_utf8(form(&[file("RIFF"), field("model", "m")])).unwrap();
        assert!(Form::read(TYPE, whole.as_bytes()).is_ok());
        for body in [
            String::new(),
            "--b0--\r\n".to_owned(),
            format!("preamble\r\n{whole}"),
            format!("\r\n{whole}"),
            format!("{whole}epilogue"),
            whole.replace("\r\n", "\n"),
            whole.replacen("\r\n", "\n", 1),
            whole.trim_end().trim_end_matches('-').to_owned(),
            whole.replacen("--b0\r\n", "--b0 \r\n", 1),
            whole.replace("RIFF", "R\n--b0\nContent-Disposition: form-data; name=\"model\"\n\nother"),
            whole.replace("RIFF", "R\r\n--b0x\r\nIFF"),
            whole.replace("RIFF", "R--b0IFF"),
            whole.replace("RIFF\r\n", "RIFF"),
            format!("{whole}{whole}"),
        ] {
            assert!(Form::read(TYPE, body.as_bytes()).is_err(), "{body:?}");
        }
    }

    #[test]
    fn a_part_whose_name_has_two_readings_is_refused() {
        for header in [
            "Content-Type: text/plain",
            "Content-Disposition: form-data",
            "Content-Disposition: attachment; name=\"model\"",
            "Content-Disposition: form-data; name=\"a\"; name=\"model\"",
            "Content-Disposition: form-data; name=\"a\"\r\nContent-Disposition: form-data; name=\"model\"",
            "Content-Disposition: form-data; name*=utf-8''model",
            "Content-Disposition: form-data; name*0=mod; name*1=el",
            "Content-Disposition: form-data; name=\"a\"; filename=\"b\\\"; name=\\\"model\"",
            "Content-Disposition: form-data;\r\n name=\"model\"",
            "Content-Disposition: form-data; name=\"mod%65l\"",
            "Content-Disposition: form-data; name=\"\"",
            "Content-Disposition : form-data; name=\"a\"",
            "Content-Disposition: form-data; name=\"a\"\r\nContent-Transfer-Encoding: base64",
            "Content-Disposition: form-data; name=\"a\"\r\nContent-Type: multipart/mixed; boundary=c",
            "Content-Disposition: form-data; name=\"a\rb\"",
        ] {
            let body = form(&[field("model", "m"), part(header, "x")]);
            assert!(Form::read(TYPE, &body).is_err(), "{header}");
        }
        let padded = format!("Content-Disposition: form-data; name=\"a\"; filename=\"{}\"", "x".repeat(HEADER));
        let body = form(&[part(&padded, "x")]);
        assert_eq!(Form::read(TYPE, &body).unwrap_err().reason(), "form_too_large");
        let many: Vec<String> = (0..=PARTS).map(|n| field(&format!("f{n}"), "x")).collect();
        assert_eq!(Form::read(TYPE, &form(&many)).unwrap_err().reason(), "form_too_large");
    }

    #[test]
    fn a_second_model_in_any_disguise_is_refused() {
        for name in
            ["model", "Model", "MODEL", "model[]", "model[0]", "model.name", "stream[]", "base_url", "_charset_"]
        {
            let body = form(&[field("model", "m"), field(name, "other")]);
            assert_eq!(Form::read(TYPE, &body).unwrap_err().reason(), "forbidden_parameter", "{name}");
        }
        for header in [
            "Content-Disposition: form-data; name=\"model\"; filename=\"m\"",
            "Content-Disposition: form-data; name=\"model\"\r\nContent-Type: text/plain; charset=utf-16",
        ] {
            assert!(Form::read(TYPE, &form(&[part(header, "m")])).is_err(), "{header}");
        }
        for value in ["", "a\r\nb", "a\nb", &"x".repeat(257)] {
            assert_eq!(
                Form::read(TYPE, &form(&[field("model", value)])).unwrap_err().param(),
                Some("model"),
                "{value:?}"
            );
        }
        assert!(Form::read(TYPE, &form(&[field("image[]", "a"), field("timestamp_granularities[]", "word")])).is_ok());
    }

    #[test]
    fn a_name_that_would_cut_the_form_is_not_written_into_it() {
        let body = form(&[field("model", "m")]);
        let read = Form::read(TYPE, &body).unwrap();
        for name in ["a--b0", "a\r\nb", "", "a\u{0}"] {
            assert_eq!(read.with_model(&body, name), None, "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(kind in any::<Vec<u8>>(), body in any::<Vec<u8>>()) {
            let _ = Form::read(&kind, &body);
            let _ = Form::read(TYPE, &body);
        }

        #[test]
        fn any_parts_are_found_again_and_survive_another_model(
            contents in prop::collection::vec("[a-z \\r\\n\\-]{0,20}", 1..5), model in "[a-zA-Z0-9/:._-]{1,30}",
        ) {
            let mut parts: Vec<String> = contents.iter().enumerate().map(|(n, text)| field(&format!("f{n}"), text)).collect();
            parts.push(field("model", "m"));
            let body = form(&parts);
            let read = Form::read(TYPE, &body).unwrap();
            prop_assert_eq!(read.names().count(), parts.len());
            let Some(changed) = read.with_model(&body, &model) else { return Ok(()) };
            let again = Form::read(TYPE, &changed).unwrap();
            prop_assert_eq!(again.model(), Some(model.as_str()));
            prop_assert_eq!(again.with_model(&changed, "m").unwrap(), body);
        }

        #[test]
        fn a_form_of_odd_pieces_is_read_in_one_way_or_refused(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "--b0", "\r\n", "\n", "--", "Content-Disposition: form-data; name=\"model\"", "a", " ", "\r\n\r\n", "--b0--",
            ]), 0..24),
        ) {
            let body = pieces.concat();
            if let Ok(read) = Form::read(TYPE, body.as_bytes()) {
                // A reader that cuts at every line that is a delimiter sees the same parts.
                let cut = body.split("--b0").count() - 2;
                prop_assert_eq!(read.names().count(), cut);
            }
        }
    }
}
