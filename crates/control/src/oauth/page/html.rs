//! Text that is safe to stand in a page: every part of it was written here, or escaped.

use std::fmt::{self, Write as _};

/// A piece of HTML. Only constants of this crate and escaped text get in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::oauth) struct Html(String);

impl Html {
    /// Markup written in the source.
    pub(in crate::oauth) fn markup(markup: &'static str) -> Self {
        Self(markup.to_owned())
    }

    /// Any text, escaped for an element's content and for a quoted attribute. Control characters and those that turn the
    /// direction of the text around become visible, so that a name cannot be made to look like another.
    pub(in crate::oauth) fn text(text: &str) -> Self {
        let mut html = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                '&' => html.push_str("&amp;"),
                '<' => html.push_str("&lt;"),
                '>' => html.push_str("&gt;"),
                '"' => html.push_str("&quot;"),
                '\'' => html.push_str("&#39;"),
                '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    html.push('\u{fffd}');
                }
                c if c.is_control() => html.push('\u{fffd}'),
                c => html.push(c),
            }
        }
        Self(html)
    }

    /// A paragraph of any text.
    pub(in crate::oauth) fn paragraph(text: &str) -> Self {
        Self::element("p", &Self::text(text))
    }

    /// An element around some HTML.
    pub(in crate::oauth) fn element(name: &'static str, inner: &Self) -> Self {
        Self(format!("<{name}>{}</{name}>\n", inner.0))
    }

    /// A list of texts.
    pub(in crate::oauth) fn list(items: &[String]) -> Self {
        let mut list = String::from("<ul>\n");
        for item in items {
            let _ = writeln!(list, "<li>{}</li>", Self::text(item));
        }
        Self(list + "</ul>\n")
    }

    /// A link that looks like the page's main button. The URL is one of ours, of a registered client, or of the provider.
    pub(in crate::oauth) fn link(url: &str, label: &'static str) -> Self {
        Self(format!("<p><a class=\"button\" href=\"{}\">{label}</a></p>\n", Self::text(url)))
    }

    /// A line of text to be filled in by hand.
    pub(in crate::oauth) fn input(name: &'static str, value: &str) -> Self {
        Self(format!(
            "<input type=\"text\" id=\"{name}\" name=\"{name}\" value=\"{}\" maxlength=\"32\" required autofocus \
             autocomplete=\"off\" autocapitalize=\"characters\" spellcheck=\"false\">\n",
            Self::text(value)
        ))
    }

    /// A form of ours with hidden values around some HTML.
    pub(in crate::oauth) fn form(action: &str, hidden: &[(&'static str, &str)], inner: &Self) -> Self {
        let mut form = format!("<form method=\"post\" action=\"{}\">\n", Self::text(action));
        for (name, value) in hidden {
            let _ = writeln!(form, "<input type=\"hidden\" name=\"{name}\" value=\"{}\">", Self::text(value));
        }
        Self(form + &inner.0 + "</form>\n")
    }

    /// This and that after it.
    pub(in crate::oauth) fn and(mut self, next: &Self) -> Self {
        self.0.push_str(&next.0);
        self
    }
}

impl fmt::Display for Html {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_cannot_be_turned_around() {
        assert_eq!(Html::text("a\u{202e}b\0\n").to_string(), "a\u{fffd}b\u{fffd}\u{fffd}");
    }

    proptest! {
        #[test]
        fn no_text_leaves_its_place(text in "\\PC{0,60}|[<>&\"'a-z=/ ]{0,60}") {
            let html = Html::text(&text).to_string();
            prop_assert!(!html.contains(['<', '>', '"', '\'']));
            let form = Html::form("/a", &[("n", &text)], &Html::default()).to_string();
            prop_assert_eq!(form.matches('<').count(), 3);
            prop_assert_eq!(form.matches('"').count(), 4 + 6);
        }
    }
}
