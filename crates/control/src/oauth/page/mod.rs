//! What a person sees in a browser: small pages without scripts, which no other page can frame, restyle or post for.

mod html;

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use axum::body::Body;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, StatusCode, header};

pub(super) use html::Html;

/// The look of every page: readable on a phone, light or dark as the reader has it.
const STYLE: &str = include_str!("style.css");

static STYLE_SOURCE: LazyLock<String> =
    LazyLock::new(|| format!("'sha256-{}'", STANDARD.encode(digest(&SHA256, STYLE.as_bytes()))));

/// A page on its way out.
#[derive(Debug)]
pub(super) struct Page {
    status: StatusCode,
    title: &'static str,
    body: Html,
    form_targets: Vec<String>,
    onward: Option<String>,
}

impl Page {
    /// A page with this heading.
    pub(super) fn new(title: &'static str, body: Html) -> Self {
        Self { status: StatusCode::OK, title, body, form_targets: vec!["'self'".to_owned()], onward: None }
    }

    /// A page that says what went wrong, in a fixed text.
    pub(super) fn error(status: StatusCode, title: &'static str, what: &str) -> Self {
        Self { status, ..Self::new(title, Html::paragraph(what)) }
    }

    /// With another status than 200.
    pub(super) fn status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// What its forms may lead to besides ourselves: browsers hold a form's redirects to this too.
    pub(super) fn forms_lead_to(mut self, source: String) -> Self {
        self.form_targets.push(source);
        self
    }

    /// Go on to this URL at once; the page has a link for browsers that do not.
    pub(super) fn onward(mut self, url: String) -> Self {
        self.onward = Some(url);
        self
    }

    /// The response.
    pub(super) fn response(self) -> Response {
        let Self { status, title, body, form_targets, onward } = self;
        let heading = Html::text(title);
        let text = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"robots\" content=\"noindex\">\n\
             <title>{heading}</title>\n<style>{STYLE}</style>\n</head>\n\
             <body>\n<main>\n<h1>{heading}</h1>\n{body}</main>\n</body>\n</html>\n"
        );
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert("x-robots-tag", HeaderValue::from_static("noindex"));
        let targets = form_targets.join(" ");
        let policy = format!(
            "default-src 'none'; style-src {}; form-action {targets}; base-uri 'none'; frame-ancestors 'none'",
            *STYLE_SOURCE
        );
        // Targets are origins and schemes of registered URIs: they always make a header.
        let strictest = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_str(&policy).unwrap_or(strictest));
        if let Some(onward) = onward
            && let Ok(value) = HeaderValue::from_str(&format!("0; url={onward}"))
        {
            headers.insert(header::REFRESH, value);
        }
        response
    }
}

/// Send a browser elsewhere with GET, whatever it came with, and let nobody keep the answer: the URL may hold a code.
pub(super) fn redirect(to: &str) -> Response {
    let Ok(location) = HeaderValue::from_str(to) else {
        tracing::error!("a redirect that is no header value");
        return Page::error(StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong", "Please start again.")
            .response();
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, location);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn a_page_runs_no_script_and_cannot_be_framed_or_kept() {
        let page = Page::new("Hello", Html::paragraph("<script>alert(1)</script>"));
        let response = page.forms_lead_to("com.example.app:".to_owned()).response();
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        let policy = header("content-security-policy");
        for part in [
            "default-src 'none'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'self' com.example.app:;",
            "style-src 'sha256-",
        ] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains("script-src"));
        assert_eq!((header("x-frame-options"), header("cache-control")), ("DENY".into(), "no-store".into()));
        assert_eq!(header("referrer-policy"), "no-referrer");
        let text = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(text.to_vec()).unwrap();
        assert!(text.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && !text.contains("<script"), "{text}");
        assert!(!text.contains("http://") && !text.contains("https://"), "no resource from elsewhere");
        let style = text.split_once("<style>").unwrap().1.split_once("</style>").unwrap().0;
        let hash = STANDARD.encode(digest(&SHA256, style.as_bytes()));
        assert!(policy.contains(&format!("style-src 'sha256-{hash}';")), "{policy}");
    }

    #[test]
    fn a_redirect_with_a_line_break_is_none() {
        assert_eq!(redirect("https://a.example/\r\nx: y").status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(redirect("https://a.example/?code=1").status(), StatusCode::SEE_OTHER);
    }
}
