//! `/v1beta/models/{model}:generateContent`, `:streamGenerateContent`, `:countTokens` and the others, and the same under
//! `/v1/models/`: what Google's form of a request has in its path, and its streams as one JSON array.

use base::Problem;
use bytes::Bytes;
use http::header::{self, HeaderValue};
use llm::passthrough::Said;
use llm::{JsonArray, Usage};

use crate::relay::{Answer, Before, Content, Pipe, State};

/// What the path asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    /// The model.
    pub(crate) model: String,
    /// Whether the answer is streamed.
    pub(crate) stream: bool,
    /// What is called.
    pub(crate) method: Method,
}

/// What is called of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// `generateContent` and `streamGenerateContent`
    Generate,
    /// `countTokens`
    CountTokens,
    /// `embedContent`
    Embed,
    /// `batchEmbedContents`
    BatchEmbed,
}

impl Path {
    /// What `path` asks for, below this gateway's root or a provider's base.
    pub(crate) fn of(path: &str) -> Option<Self> {
        let known = ["/v1beta/models/", "/v1/models/", "/models/"].iter().find_map(|prefix| path.strip_prefix(prefix));
        // Some clients take a name with a slash for a path of its own.
        let known = known.or_else(|| path.strip_prefix('/').filter(|rest| rest.starts_with("tunedModels/")));
        let rest = known.or_else(|| path.strip_prefix("/v1beta/").filter(|rest| rest.contains('/')))?;
        let (model, method) = rest.rsplit_once(':')?;
        let stream = method == "streamGenerateContent";
        let method = match method {
            "generateContent" | "streamGenerateContent" => Method::Generate,
            "countTokens" => Method::CountTokens,
            "embedContent" => Method::Embed,
            "batchEmbedContents" => Method::BatchEmbed,
            _ => return None,
        };
        let model = percent_encoding::percent_decode_str(model).decode_utf8().ok()?;
        (!model.is_empty()).then(|| Self { model: model.into_owned(), stream, method })
    }
}

/// Whether the query asks for server-sent events (`alt=sse`); without it a stream is an array.
pub(crate) fn wants_events(query: Option<&str>) -> bool {
    let named = |query: &str| {
        url::form_urlencoded::parse(query.as_bytes()).any(|(name, value)| name == "alt" && value == "sse")
    };
    query.is_some_and(named)
}

/// A streamed answer as one array.
pub(super) fn as_array(answer: Answer) -> Answer {
    let Answer { status, mut headers, content } = answer;
    let wrap = |pipe| Box::new(Arrayed { pipe, array: JsonArray::default() });
    let content = match content {
        Content::Stream(first, body, pipe) => Content::Stream(first, body, wrap(pipe)),
        Content::Made(events, pipe) => Content::Made(events, wrap(pipe)),
        other @ (Content::Whole(..) | Content::Session(_)) => return Answer { status, headers, content: other },
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    Answer { status, headers, content }
}

/// A stream of events that goes out as an array.
struct Arrayed {
    pipe: Box<dyn Pipe>,
    array: JsonArray,
}

impl Arrayed {
    fn last(&mut self, events: &Bytes) -> Bytes {
        let mut out = self.array.feed(events);
        out.extend(self.array.finish());
        Bytes::from(out)
    }
}

impl Pipe for Arrayed {
    fn feed(&mut self, piece: &Bytes) -> Bytes {
        let events = self.pipe.feed(piece);
        Bytes::from(self.array.feed(&events))
    }

    fn finish(&mut self, clean: bool) -> Bytes {
        let events = self.pipe.finish(clean);
        self.last(&events)
    }

    fn interrupt(&mut self, problem: &Problem) -> Bytes {
        let events = self.pipe.interrupt(problem);
        self.last(&events)
    }

    fn before(&mut self) -> Option<Before> {
        self.pipe.before()
    }

    fn is_well(&self) -> bool {
        self.pipe.is_well()
    }

    fn state(&self) -> State {
        self.pipe.state()
    }

    fn usage(&self) -> Usage {
        self.pipe.usage()
    }

    fn said(&self) -> Said {
        self.pipe.said()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_says_the_model_and_whether_it_streams() {
        let path = |model: &str, stream| Some(Path { model: model.to_owned(), stream, method: Method::Generate });
        assert_eq!(Path::of("/v1beta/models/fast:generateContent"), path("fast", false));
        assert_eq!(Path::of("/v1/models/vouchgate%2Fecho:streamGenerateContent"), path("vouchgate/echo", true));
        assert_eq!(Path::of("/v1beta/models/llama:8b:generateContent"), path("llama:8b", false));
        assert_eq!(Path::of("/v1beta/vouchgate/echo:generateContent"), path("vouchgate/echo", false));
        assert_eq!(Path::of("/tunedModels/t:generateContent"), path("tunedModels/t", false));
        for other in [
            "/v1beta/models/:generateContent",
            "/v1beta/models/x",
            "/v1beta/models/x:delete",
            "/v1beta/models/:countTokens",
            "/v2/models/x:generateContent",
        ] {
            assert_eq!(Path::of(other), None, "{other}");
        }
        for (text, method) in [
            ("countTokens", Method::CountTokens),
            ("embedContent", Method::Embed),
            ("batchEmbedContents", Method::BatchEmbed),
        ] {
            let path = Path { model: "m".to_owned(), stream: false, method };
            assert_eq!(Path::of(&format!("/v1beta/models/m:{text}")), Some(path));
        }
        assert!(wants_events(Some("a=b&alt=sse")) && !wants_events(Some("alt=json")) && !wants_events(None));
    }
}
