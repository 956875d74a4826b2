//! Requests: read from clients, written for providers. What a provider has no word for is refused by name.

use super::{Client, Embed, Input, Surface, Task};
use crate::dialect::gemini::member;
use crate::json::{Limits, Node, node, object};
use crate::{JsonError, RequestError};

/// Most texts of one request, as at OpenAI.
const INPUTS: usize = 2048;

impl Embed {
    /// Read a client's request.
    pub fn read(client: Client, body: &[u8], limits: &Limits) -> Result<Self, RequestError> {
        let text = std::str::from_utf8(body).map_err(|error| JsonError::Utf8(error.valid_up_to()))?;
        let root = node(text, limits)?;
        if !root.is_object() {
            return Err(JsonError::NotObject.into());
        }
        match client {
            Client::OpenAi => openai(&root),
            Client::Gemini => Ok(Self { client, ..one_of_gemini(&root, "")? }),
            Client::GeminiBatch => batch(&root),
        }
    }

    /// As `surface` takes it, for its `model`.
    pub fn write(&self, surface: Surface, model: &str) -> Result<Vec<u8>, RequestError> {
        if self.title.is_some() && !matches!(surface, Surface::Gemini | Surface::Vertex) {
            return Err(RequestError::unsupported("title", "this model knows no titles"));
        }
        Ok(match surface {
            Surface::OpenAi => self.for_openai(model)?,
            Surface::Voyage => self.for_voyage(model)?,
            Surface::Gemini => self.for_gemini(model)?,
            Surface::Vertex => self.for_vertex()?,
            Surface::Cohere => self.for_cohere(Some(model))?,
            Surface::BedrockCohere => self.for_cohere(None)?,
            Surface::BedrockTitan => self.for_titan(model)?,
            Surface::Ollama => self.for_ollama(model)?,
        }
        .into_bytes())
    }

    fn for_openai(&self, model: &str) -> Result<String, RequestError> {
        self.without_task()?;
        Ok(object(|o| {
            o.text("model", model);
            o.array("input", |a| {
                for input in &self.inputs {
                    match input {
                        Input::Text(text) => a.text(text),
                        Input::Tokens(tokens) => a.raw(tokens),
                    }
                }
            });
            o.maybe_number("dimensions", self.dimensions);
            o.text("encoding_format", "float");
        }))
    }

    fn for_voyage(&self, model: &str) -> Result<String, RequestError> {
        let kind = match self.task {
            None => None,
            Some(Task::Query) => Some("query"),
            Some(Task::Document) => Some("document"),
            Some(_) => return Err(self.no_such_task()),
        };
        let texts = self.texts()?;
        Ok(object(|o| {
            o.text("model", model);
            o.array("input", |a| texts.iter().for_each(|text| a.text(text)));
            o.maybe_text("input_type", kind);
            o.maybe_number("output_dimension", self.dimensions);
        }))
    }

    fn for_gemini(&self, model: &str) -> Result<String, RequestError> {
        let name = if model.starts_with("models/") { model.to_owned() } else { format!("models/{model}") };
        let texts = self.texts()?;
        Ok(object(|o| {
            o.array("requests", |a| {
                for text in &texts {
                    a.object(|o| {
                        o.text("model", &name);
                        o.object("content", |o| o.array("parts", |a| a.object(|o| o.text("text", text))));
                        o.maybe_text("taskType", self.task.map(Task::at_google));
                        o.maybe_text("title", self.title.as_deref());
                        o.maybe_number("outputDimensionality", self.dimensions);
                    });
                }
            });
        }))
    }

    fn for_vertex(&self) -> Result<String, RequestError> {
        let texts = self.texts()?;
        Ok(object(|o| {
            o.array("instances", |a| {
                for text in &texts {
                    a.object(|o| {
                        o.text("content", text);
                        o.maybe_text("task_type", self.task.map(Task::at_google));
                        o.maybe_text("title", self.title.as_deref());
                    });
                }
            });
            if let Some(dimensions) = self.dimensions {
                o.object("parameters", |o| o.number("outputDimensionality", dimensions));
            }
        }))
    }

    fn for_cohere(&self, model: Option<&str>) -> Result<String, RequestError> {
        let kind = match self.task {
            // It insists on one; texts that are stored are the usual case.
            None | Some(Task::Document) => "search_document",
            Some(Task::Query) => "search_query",
            Some(Task::Classification) => "classification",
            Some(Task::Clustering) => "clustering",
            Some(_) => return Err(self.no_such_task()),
        };
        let texts = self.texts()?;
        Ok(object(|o| {
            o.maybe_text("model", model);
            o.array("texts", |a| texts.iter().for_each(|text| a.text(text)));
            o.text("input_type", kind);
            o.array("embedding_types", |a| a.text("float"));
            o.maybe_number("output_dimension", self.dimensions);
        }))
    }

    fn for_titan(&self, model: &str) -> Result<String, RequestError> {
        self.without_task()?;
        let texts = self.texts()?;
        let [text] = texts.as_slice() else {
            return Err(RequestError::unsupported(self.input_name(), "this model takes one text at a time"));
        };
        Ok(object(|o| {
            o.text("inputText", text);
            match self.dimensions {
                // The one that takes pictures too has a name of its own for it
                // (docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-mm.html).
                Some(size) if model.contains("titan-embed-image") => {
                    o.object("embeddingConfig", |o| o.number("outputEmbeddingLength", size));
                }
                size => o.maybe_number("dimensions", size),
            }
        }))
    }

    fn for_ollama(&self, model: &str) -> Result<String, RequestError> {
        self.without_task()?;
        let texts = self.texts()?;
        Ok(object(|o| {
            o.text("model", model);
            o.array("input", |a| texts.iter().for_each(|text| a.text(text)));
            o.maybe_number("dimensions", self.dimensions);
        }))
    }

    /// The inputs, if all of them are texts.
    fn texts(&self) -> Result<Vec<&str>, RequestError> {
        fn text(input: &Input) -> Result<&str, RequestError> {
            match input {
                Input::Text(text) => Ok(text),
                Input::Tokens(_) => Err(RequestError::unsupported("input", "it takes texts only, no tokens")),
            }
        }
        self.inputs.iter().map(text).collect()
    }

    fn without_task(&self) -> Result<(), RequestError> {
        if self.task.is_some() { Err(self.no_such_task()) } else { Ok(()) }
    }

    fn no_such_task(&self) -> RequestError {
        let name = if self.client == Client::OpenAi { "input_type" } else { "taskType" };
        RequestError::unsupported(name, "this model makes no vectors for this purpose")
    }

    fn input_name(&self) -> &'static str {
        match self.client {
            Client::OpenAi => "input",
            Client::Gemini => "content",
            Client::GeminiBatch => "requests",
        }
    }
}

impl Task {
    const ALL: [Self; 8] = [
        Self::Query,
        Self::Document,
        Self::Similarity,
        Self::Classification,
        Self::Clustering,
        Self::QuestionAnswering,
        Self::FactVerification,
        Self::CodeQuery,
    ];

    const fn at_google(self) -> &'static str {
        match self {
            Self::Query => "RETRIEVAL_QUERY",
            Self::Document => "RETRIEVAL_DOCUMENT",
            Self::Similarity => "SEMANTIC_SIMILARITY",
            Self::Classification => "CLASSIFICATION",
            Self::Clustering => "CLUSTERING",
            Self::QuestionAnswering => "QUESTION_ANSWERING",
            Self::FactVerification => "FACT_VERIFICATION",
            Self::CodeQuery => "CODE_RETRIEVAL_QUERY",
        }
    }

    /// As Cohere and Voyage say it; OpenAI's own form has no word for it.
    fn of_input_type(name: &str) -> Option<Self> {
        match name {
            "search_query" | "query" => Some(Self::Query),
            "search_document" | "document" => Some(Self::Document),
            "classification" => Some(Self::Classification),
            "clustering" => Some(Self::Clustering),
            _ => None,
        }
    }
}

/// Whether a request in OpenAI's form is in Voyage's own, which has other words besides: then nothing has to be translated for
/// it, nor in its answer.
pub fn is_voyages(body: &[u8], limits: &Limits) -> bool {
    let Ok(root) = std::str::from_utf8(body).map_err(drop).and_then(|text| node(text, limits).map_err(drop)) else {
        return false;
    };
    let own = ["truncation", "output_dimension", "output_dtype"].iter().any(|name| root.get(name).is_some());
    let purpose = root.text_of("input_type").is_some_and(|kind| matches!(kind.as_ref(), "query" | "document"));
    let others = ["dimensions", "user"].iter().any(|name| root.get(name).is_some());
    (own || purpose) && !others
}

fn openai(root: &Node<'_>) -> Result<Embed, RequestError> {
    let mut embed =
        Embed { client: Client::OpenAi, inputs: Vec::new(), dimensions: None, base64: false, task: None, title: None };
    for (name, value) in root.members().iter().filter(|(_, value)| !value.is_null()) {
        match name.as_ref() {
            // The answer is the same whoever asks.
            "model" | "user" => {}
            "input" => embed.inputs = inputs(value)?,
            "dimensions" => embed.dimensions = Some(dimensions(value, "dimensions")?),
            "encoding_format" => {
                embed.base64 = match value.text().as_deref() {
                    Some("float") => false,
                    Some("base64") => true,
                    _ => return Err(RequestError::wrong("encoding_format", "float or base64")),
                }
            }
            "input_type" => {
                let task = value.text().and_then(|name| Task::of_input_type(&name));
                embed.task = Some(task.ok_or_else(|| {
                    RequestError::wrong("input_type", "search_query, search_document, classification or clustering")
                })?);
            }
            other => return Err(unknown(other)),
        }
    }
    if embed.inputs.is_empty() { Err(RequestError::missing("input")) } else { Ok(embed) }
}

fn unknown(name: &str) -> RequestError {
    RequestError::unsupported(name.chars().take(64).collect::<String>(), "it has no such member")
}

fn dimensions(value: &Node<'_>, name: &str) -> Result<u64, RequestError> {
    value.whole().filter(|count| *count > 0).ok_or_else(|| RequestError::wrong(name, "a whole number above zero"))
}

/// `input`: a text, a list of tokens, or several of them.
fn inputs(input: &Node<'_>) -> Result<Vec<Input>, RequestError> {
    let wrong = || RequestError::wrong("input", "a text or a list of tokens, or up to 2048 of them");
    let one = |item: &Node<'_>| match item.text() {
        Some(text) => Some(Input::Text(text.into_owned())),
        None if !item.items().is_empty() && item.items().iter().all(|token| token.whole().is_some()) => {
            Some(Input::Tokens(item.raw.to_owned()))
        }
        None => None,
    };
    let alone = input.is_string() || input.items().first().is_some_and(|first| first.whole().is_some());
    let found: Option<Vec<Input>> =
        if alone { one(input).map(|one| vec![one]) } else { input.items().iter().map(one).collect() };
    found.filter(|found| !found.is_empty() && found.len() <= INPUTS).ok_or_else(wrong)
}

/// One of Google's requests; `place` is where it stands, for errors.
fn one_of_gemini(root: &Node<'_>, place: &str) -> Result<Embed, RequestError> {
    let at = |name: &str| if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") };
    let known = ["model", "content", "taskType", "task_type", "title", "outputDimensionality", "output_dimensionality"];
    if let Some((name, _)) =
        root.members().iter().find(|(name, value)| !known.contains(&name.as_ref()) && !value.is_null())
    {
        return Err(unknown(name));
    }
    let content = root.get("content").ok_or_else(|| RequestError::missing(at("content")))?;
    let mut text = String::new();
    for part in content.get("parts").map(Node::items).unwrap_or_default() {
        match (part.text_of("text"), part.members().len()) {
            (Some(words), 1) => text.push_str(&words),
            _ => return Err(RequestError::unsupported(at("content.parts"), "it takes texts only")),
        }
    }
    let task = match member(root, "taskType").and_then(Node::text) {
        None => None,
        Some(name) if name == "TASK_TYPE_UNSPECIFIED" => None,
        Some(name) => {
            let task = Task::ALL.into_iter().find(|task| task.at_google() == name);
            Some(task.ok_or_else(|| RequestError::wrong(at("taskType"), "one of Google's task types"))?)
        }
    };
    let size = member(root, "outputDimensionality");
    let title = root.text_of("title").filter(|title| !title.is_empty());
    Ok(Embed {
        client: Client::GeminiBatch,
        inputs: vec![Input::Text(text)],
        dimensions: size.map(|size| dimensions(size, &at("outputDimensionality"))).transpose()?,
        base64: false,
        task,
        title: title.map(Into::into),
    })
}

/// Several of Google's requests: other providers make all vectors of one request alike.
fn batch(root: &Node<'_>) -> Result<Embed, RequestError> {
    let items = root.get("requests").map(Node::items).unwrap_or_default();
    let mut whole: Option<Embed> = None;
    for (index, item) in items.iter().enumerate() {
        let place = format!("requests[{index}]");
        let one = one_of_gemini(item, &place)?;
        match &mut whole {
            None => whole = Some(one),
            Some(whole) => {
                if (whole.dimensions, whole.task, &whole.title) != (one.dimensions, one.task, &one.title) {
                    return Err(RequestError::unsupported(place, "all requests of a batch have to ask for the same"));
                }
                whole.inputs.extend(one.inputs);
            }
        }
    }
    let fits = |whole: &Embed| whole.inputs.len() <= INPUTS;
    whole.filter(fits).ok_or_else(|| RequestError::wrong("requests", "a list of up to 2048 requests"))
}
