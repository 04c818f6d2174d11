//! A body or a query that is not what a route takes → one clause that says which field is wrong and what it should be.
//!
//! What serde says is meant for who writes Rust: types, lines and columns. Texts that are not known here are passed on as they are. Not
//! here: values that a type allows and a route does not.

use axum::extract::rejection::QueryRejection;
use serde::de::DeserializeOwned;

use super::api::ApiError;

/// Reads a body.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::BadJson(of_json(body, &error)))
}

/// Of a body that could not be read.
fn of_json(body: &[u8], error: &serde_json::Error) -> String {
    let text = error.to_string();
    let said = text.rsplit_once(" at line ").map_or(text.as_str(), |(said, _)| said);
    match error.classify() {
        _ if body.trim_ascii().is_empty() => "it is empty, and is to be a JSON object".to_owned(),
        serde_json::error::Category::Data => of_data(last_field(body, error.line(), error.column()), said),
        _ => format!("it is no JSON: {text}"),
    }
}

/// Of a query that could not be read.
pub fn of_query(rejection: &QueryRejection) -> String {
    let text = rejection.body_text();
    let said = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
    let (field, said) = match said.split_once(": ") {
        Some((field, said)) if !field.contains(' ') => (Some(field.to_owned()), said),
        _ => (None, said),
    };
    of_data(field, said)
}

/// The name in front of the value that ends at a place.
fn last_field(body: &[u8], line: usize, column: usize) -> Option<String> {
    let before: usize = body.split_inclusive(|byte| *byte == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    let text = String::from_utf8_lossy(body.get(..(before + column).min(body.len()))?).into_owned();
    let mut colons = text.rmatch_indices(':').map(|(at, _)| text[..at].trim_end());
    let front = colons.find_map(|front| front.strip_suffix('"'))?;
    front.rsplit('"').next().map(str::to_owned)
}

/// `field`: where it is, if that is known.
fn of_data(field: Option<String>, said: &str) -> String {
    let quoted = |text: &str| text.split('`').nth(1).unwrap_or_default().to_owned();
    if said.starts_with("missing field ") {
        return format!("`{}` is missing", quoted(said));
    }
    if said.starts_with("duplicate field ") {
        return format!("`{}` is there twice", quoted(said));
    }
    let expected = said.split_once(", expected ").map(|(_, expected)| expected.strip_prefix("one of ").unwrap_or(expected));
    let field = field.map_or_else(|| "it".to_owned(), |field| format!("`{field}`"));
    match expected {
        Some(expected) if said.starts_with("unknown field ") => {
            format!("`{}` is not known; there are {expected}", quoted(said))
        }
        Some(expected) if said.starts_with("unknown variant ") => {
            format!("{field} is `{}`, and may be {expected}", quoted(said))
        }
        Some(expected) if said.starts_with("invalid ") => format!("{field} must be {}", kind(expected)),
        None if said.starts_with("data did not match any variant of untagged enum Moment") => {
            format!("{field} must be a time such as 2026-01-02T15:04:05, or seconds since 1970")
        }
        _ if said.starts_with("provided string was not `true` or `false`") => format!("{field} must be true or false"),
        _ if said.starts_with("invalid digit") || said.starts_with("cannot parse integer") => {
            format!("{field} must be a whole number")
        }
        _ => said.to_owned(),
    }
}

/// A type of Rust, as people say it.
fn kind(expected: &str) -> String {
    match expected {
        "u8" => "a whole number from 0 to 255",
        "i8" => "a whole number from -128 to 127",
        "u16" => "a whole number from 0 to 65535",
        "i16" => "a whole number from -32768 to 32767",
        "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a string" => "a text",
        "a sequence" => "a list",
        _ if expected.starts_with("struct ") => "an object",
        other => other,
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use axum::extract::Query;
    use serde::Deserialize;

    use super::*;
    use crate::protocol::gb28181::moment::Moment;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Body {
        device: Option<String>,
        speed: u32,
        number: u8,
        on: bool,
        zoom: Option<f64>,
        kind: Option<Kind>,
        start: Option<Moment>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Udp,
        Tcp,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    struct Asked {
        start: String,
        online: Option<bool>,
        limit: Option<usize>,
    }

    #[test]
    fn what_is_wrong_with_a_body_is_said_in_words() {
        let cases = [
            ("", "it is empty, and is to be a JSON object"),
            ("{\"device\": ", "it is no JSON: EOF while parsing a value at line 1 column 11"),
            ("\"play\"", "it must be an object"),
            (r#"{"colour": 1}"#, "`colour` is not known; there are `device`, `speed`, `number`, `on`, `zoom`, `kind`, `start`"),
            (r#"{"on": true, "on": true}"#, "`on` is there twice"),
            (r#"{"device": 5}"#, "`device` must be a text"),
            ("{\n  \"on\": true,\n  \"number\" : 300\n}", "`number` must be a whole number from 0 to 255"),
            (r#"{"speed": -1, "on": true}"#, "`speed` must be a whole number, 0 or more"),
            (r#"{"on": "yes"}"#, "`on` must be true or false"),
            (r#"{"zoom": "near"}"#, "`zoom` must be a number"),
            (r#"{"kind": "sctp"}"#, "`kind` is `sctp`, and may be `udp` or `tcp`"),
            (r#"{"start": [1]}"#, "`start` must be a time such as 2026-01-02T15:04:05, or seconds since 1970"),
        ];
        for (body, expected) in cases {
            let error = serde_json::from_slice::<Body>(body.as_bytes()).expect_err(body);
            assert_eq!(of_json(body.as_bytes(), &error), expected, "{body}: {error}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_query_is_said_in_words() {
        let cases = [
            ("end=1", "`end` is not known; there are `start`, `online`, `limit`"),
            ("online=true", "`start` is missing"),
            ("start=1&online=maybe", "`online` must be true or false"),
            ("start=1&limit=many", "`limit` must be a whole number"),
            ("start=1&limit=-1", "`limit` must be a whole number"),
        ];
        for (query, expected) in cases {
            let uri = format!("http://h/?{query}").parse().unwrap();
            let rejection = Query::<Asked>::try_from_uri(&uri).expect_err(query);
            assert_eq!(of_query(&rejection), expected, "{query}: {}", rejection.body_text());
        }
    }
}
