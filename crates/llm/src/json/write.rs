//! Writing JSON member by member, so that a value's own text can be put in as it is.

/// `{...}` filled by `fill`.
pub(crate) fn object(fill: impl FnOnce(&mut Object<'_>)) -> String {
    let mut out = String::new();
    write_object(&mut out, fill);
    out
}

/// [`object`] in one line: a line feed within would end an event or a line of a stream. In strings they are escaped, so what is
/// left stands between the values that were put in as they were.
pub(crate) fn line(fill: impl FnOnce(&mut Object<'_>)) -> String {
    let whole = object(fill);
    if whole.contains(['\n', '\r']) { whole.replace(['\n', '\r'], " ") } else { whole }
}

/// `[...]` filled by `fill`.
pub(crate) fn array(fill: impl FnOnce(&mut Array<'_>)) -> String {
    let mut out = String::new();
    write_array(&mut out, fill);
    out
}

/// `text` as a JSON string.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::new();
    quote(&mut out, text);
    out
}

fn write_object(out: &mut String, fill: impl FnOnce(&mut Object<'_>)) {
    out.push('{');
    fill(&mut Object { out, first: true });
    out.push('}');
}

fn write_array(out: &mut String, fill: impl FnOnce(&mut Array<'_>)) {
    out.push('[');
    fill(&mut Array { out, first: true });
    out.push(']');
}

fn quote(out: &mut String, text: &str) {
    out.reserve(text.len() + 2);
    out.push('"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..=0x1f => "",
            _ => continue,
        };
        out.push_str(text.get(plain..at).unwrap_or_default());
        plain = at + 1;
        if escape.is_empty() {
            out.push_str("\\u00");
            out.push(if byte >= 0x10 { '1' } else { '0' });
            out.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        } else {
            out.push_str(escape);
        }
    }
    out.push_str(text.get(plain..).unwrap_or_default());
    out.push('"');
}

/// An object being written.
pub(crate) struct Object<'a> {
    out: &'a mut String,
    first: bool,
}

impl Object<'_> {
    fn name(&mut self, name: &str) -> &mut String {
        if !self.first {
            self.out.push(',');
        }
        self.first = false;
        quote(self.out, name);
        self.out.push(':');
        self.out
    }

    /// A value that is JSON text already.
    pub(crate) fn raw(&mut self, name: &str, json: &str) {
        self.name(name).push_str(json);
    }

    pub(crate) fn text(&mut self, name: &str, text: &str) {
        quote(self.name(name), text);
    }

    pub(crate) fn maybe_text(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    /// The text, or null.
    pub(crate) fn text_or_null(&mut self, name: &str, text: Option<&str>) {
        match text {
            Some(text) => self.text(name, text),
            None => self.raw(name, "null"),
        }
    }

    pub(crate) fn number(&mut self, name: &str, number: u64) {
        self.raw(name, &number.to_string());
    }

    pub(crate) fn maybe_number(&mut self, name: &str, number: Option<u64>) {
        if let Some(number) = number {
            self.number(name, number);
        }
    }

    pub(crate) fn boolean(&mut self, name: &str, value: bool) {
        self.raw(name, if value { "true" } else { "false" });
    }

    pub(crate) fn object(&mut self, name: &str, fill: impl FnOnce(&mut Object<'_>)) {
        write_object(self.name(name), fill);
    }

    pub(crate) fn array(&mut self, name: &str, fill: impl FnOnce(&mut Array<'_>)) {
        write_array(self.name(name), fill);
    }
}

/// An array being written.
pub(crate) struct Array<'a> {
    out: &'a mut String,
    first: bool,
}

impl Array<'_> {
    fn next(&mut self) -> &mut String {
        if !self.first {
            self.out.push(',');
        }
        self.first = false;
        self.out
    }

    pub(crate) fn raw(&mut self, json: &str) {
        self.next().push_str(json);
    }

    pub(crate) fn text(&mut self, text: &str) {
        quote(self.next(), text);
    }

    pub(crate) fn object(&mut self, fill: impl FnOnce(&mut Object<'_>)) {
        write_object(self.next(), fill);
    }
}
