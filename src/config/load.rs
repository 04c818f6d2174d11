//! YAML text and `--set` options to a valid [`Config`], or one sentence for the operator.
//!
//! The sentence names file, line, column (for what YAML or the types refuse) and the path of the key. Files above
//! [`FILE_BYTES_MAX`] are not read. The order is: file, then options, then [`Config::validate`] once over the whole.

use std::io::Read;
use std::path::Path;
use std::str::FromStr;

use serde::de::IgnoredAny;
use serde_yaml::Value;

use super::{Config, Invalid};

/// A longer file is refused unread.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Why there is no configuration. `Display` is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {file}: {source}")]
    Read { file: String, source: std::io::Error },
    #[error("cannot read {file}: it has more than {FILE_BYTES_MAX} bytes")]
    TooLarge { file: String },
    /// Not YAML, or not of the right type.
    #[error("{place}: {}{message}", prefix(key))]
    Refused { place: Place, key: String, message: String },
    #[error("--set {option}: there is no key `{key}`")]
    UnknownKey { option: Override, key: String },
    /// A value outside its range or at odds with another.
    #[error("{place}: {invalid}")]
    Invalid { place: Place, invalid: Box<Invalid> },
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    File { file: String, line: Option<usize>, column: Option<usize> },
    Option(Override),
    Defaults,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::File { file, line, column } => {
                f.write_str(file)?;
                [line, column].into_iter().flatten().try_for_each(|number| write!(f, ":{number}"))
            }
            Place::Option(option) => write!(f, "--set {option}"),
            Place::Defaults => f.write_str("built-in defaults"),
        }
    }
}

fn prefix(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("{key}: ") }
}

/// One `--set section.key=value`: a value that replaces the file's. The value is read as YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// `section.key`, or deeper.
    key: String,
    value: String,
}

impl FromStr for Override {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "write it as section.key=value";
        let (key, value) = text.split_once('=').ok_or(FORM)?;
        let key = key.trim();
        if !key.contains('.') || key.split('.').any(str::is_empty) {
            return Err(FORM);
        }
        Ok(Override { key: key.to_owned(), value: value.trim().to_owned() })
    }
}

impl std::fmt::Display for Override {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

/// The defaults, changed by the file (if one is named), changed by the options in their order.
pub fn load(file: Option<&Path>, options: &[Override]) -> Result<Config, ConfigError> {
    let Some(path) = file else { return finish(Config::default(), None, options) };
    let file = path.display().to_string();
    let text = read(path, &file)?;
    parse(&file, &text, options)
}

/// As [`load()`], for text that was read; `file` is what errors call it.
pub fn parse(file: &str, text: &str, options: &[Override]) -> Result<Config, ConfigError> {
    let blank = text.lines().all(|line| matches!(line.trim_start().as_bytes().first(), None | Some(b'#')));
    let config =
        if blank { Config::default() } else { serde_yaml::from_str(text).map_err(|error| refused(file, text, &error))? };
    finish(config, Some((file, text)), options)
}

fn read(path: &Path, file: &str) -> Result<String, ConfigError> {
    let failed = |source| ConfigError::Read { file: file.to_owned(), source };
    let mut text = String::new();
    let handle = std::fs::File::open(path).map_err(failed)?;
    handle.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(ConfigError::TooLarge { file: file.to_owned() });
    }
    Ok(text)
}

fn finish(mut config: Config, file: Option<(&str, &str)>, options: &[Override]) -> Result<Config, ConfigError> {
    for option in options {
        config = apply(&config, option)?;
    }
    config
        .validate()
        .map_err(|invalid| ConfigError::Invalid { place: place_of(invalid.key, file, options), invalid: Box::new(invalid) })?;
    Ok(config)
}

/// Reads the option as a file that says nothing else, so that it obeys the same rules (digits are a text where one is wanted), and
/// takes its value over.
fn apply(config: &Config, option: &Override) -> Result<Config, ConfigError> {
    let refused = |error: serde_yaml::Error| ConfigError::Refused {
        place: Place::Option(option.clone()),
        key: String::new(),
        message: explain(&error).message,
    };
    let mut root: Value = serde_yaml::to_value(config).map_err(refused)?;
    let slot = slot(&mut root, option)?;
    // Whether it is YAML at all is asked first, because these errors name places in the text.
    serde_yaml::from_str::<IgnoredAny>(&option.value).map_err(refused)?;
    let alone: Config = serde_yaml::from_str(&as_file(option)).map_err(refused)?;
    let mut alone = serde_yaml::to_value(alone).map_err(refused)?;
    *slot = std::mem::take(self::slot(&mut alone, option)?);
    serde_yaml::from_value(root).map_err(refused)
}

/// What stands under the option's key.
fn slot<'a>(root: &'a mut Value, option: &Override) -> Result<&'a mut Value, ConfigError> {
    let mut slot = root;
    let mut path_bytes = 0;
    for name in option.key.split('.') {
        path_bytes += name.len();
        let key = &option.key[..path_bytes];
        let unknown = || ConfigError::UnknownKey { option: option.clone(), key: key.to_owned() };
        slot = slot.as_mapping_mut().and_then(|section| section.get_mut(name)).ok_or_else(unknown)?;
        path_bytes += 1;
    }
    Ok(slot)
}

/// The option as block-style YAML, its value on lines of its own.
fn as_file(option: &Override) -> String {
    let mut text = String::new();
    let mut indent = String::new();
    for name in option.key.split('.') {
        text += &format!("{indent}{name}:\n");
        indent.push(' ');
    }
    // An empty value is the empty text, not YAML's null.
    let value = if option.value.is_empty() { "''" } else { &option.value };
    value.lines().for_each(|line| text += &format!("{indent}{line}\n"));
    text
}

/// Who set `key`: the last option that did, else the file, else nobody.
fn place_of(key: &str, file: Option<(&str, &str)>, options: &[Override]) -> Place {
    let set = |option: &&Override| option.key == key;
    match (options.iter().rfind(set), file) {
        (Some(option), _) => Place::Option(option.clone()),
        (None, Some((file, text))) => Place::File { file: file.to_owned(), line: line_of(text, key), column: None },
        (None, None) => Place::Defaults,
    }
}

fn refused(file: &str, text: &str, error: &serde_yaml::Error) -> ConfigError {
    let Explained { key, message, twice } = explain(error);
    let location = error.location();
    let mut line = location.as_ref().map(serde_yaml::Location::line);
    let mut column = location.as_ref().map(serde_yaml::Location::column);
    if twice {
        // serde_yaml points at the section's beginning.
        line = lines_of(text, &key).map(|(_, line)| line).last();
        column = None;
    }
    ConfigError::Refused { place: Place::File { file: file.to_owned(), line, column }, key, message }
}

/// What serde_yaml says, taken apart.
struct Explained {
    /// The path of the key; empty when none is at fault.
    key: String,
    message: String,
    /// The key is there twice.
    twice: bool,
}

/// Takes `path: message at line 1 column 2` apart and says it in an operator's words.
fn explain(error: &serde_yaml::Error) -> Explained {
    let mut said = error.to_string();
    if let Some(at) = error.location() {
        said = said.replacen(&format!(" at line {} column {}", at.line(), at.column()), "", 1);
    }
    let is_path = |text: &str| !text.contains(|c: char| c.is_whitespace() || c == '`');
    let (path, message) = match said.split_once(": ") {
        Some((path, rest)) if is_path(path) => (path, rest),
        _ => ("", said.as_str()),
    };
    for (start, what, twice) in [("unknown field `", "unknown key", false), ("duplicate field `", "is there twice", true)] {
        let Some((name, rest)) = message.strip_prefix(start).and_then(|rest| rest.split_once('`')) else { continue };
        let key = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        return Explained { key, message: format!("{what}{rest}"), twice };
    }
    let message = match message.split_once(", expected ") {
        Some((found, wanted)) if wanted.starts_with("struct ") => format!("{found}, expected a section of keys"),
        Some((found, "u8" | "u16" | "u32" | "u64" | "usize")) => format!("{found}, expected a whole number"),
        Some((found, "a sequence")) => format!("{found}, expected a list"),
        None if message == "invalid socket address syntax" => ADDRESS_EXPECTED.to_owned(),
        _ => message.to_owned(),
    };
    Explained { key: path.to_owned(), message, twice: false }
}

const ADDRESS_EXPECTED: &str = "expected an IP address with a port, such as 0.0.0.0:1935 or \"[::]:1935\"";

/// The line (from 1) that holds `key` in block-style YAML; else that of the nearest section around it.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let mut best: Option<(usize, usize)> = None;
    for (depth, line) in lines_of(text, key) {
        if best.is_none_or(|(best_depth, _)| depth > best_depth) {
            best = Some((depth, line));
        }
    }
    best.map(|(_, line)| line)
}

/// The lines of `key` and of the sections around it, each with its depth.
fn lines_of(text: &str, key: &str) -> impl Iterator<Item = (usize, usize)> {
    let wanted: Vec<&str> = key.split('.').collect();
    let mut open: Vec<(usize, &str)> = Vec::new();
    text.lines().zip(1..).filter_map(move |(line, number)| {
        let content = line.trim_start();
        let (name, _) = content.split_once(':').filter(|_| !content.starts_with(['#', '-']))?;
        let indent = line.len() - content.len();
        while open.last().is_some_and(|(outer, _)| *outer >= indent) {
            open.pop();
        }
        open.push((indent, name.trim().trim_matches(['"', '\''])));
        let matches = open.len() <= wanted.len() && open.iter().zip(&wanted).all(|((_, name), wanted)| name == wanted);
        matches.then_some((open.len(), number))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Runtime, Shards};

    fn options(texts: &[&str]) -> Vec<Override> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[track_caller]
    fn sentence(yaml: &str, set: &[&str]) -> String {
        parse("c.yaml", yaml, &options(set)).unwrap_err().to_string()
    }

    #[test]
    fn what_is_missing_has_its_default() {
        for yaml in ["", "\n# nothing\n", "{}", "viewer: {}", "viewer:\n", "rtmp:\n  hevc: enhanced\n"] {
            assert_eq!(parse("c.yaml", yaml, &[]).unwrap(), Config::default(), "{yaml:?}");
        }
    }

    #[test]
    fn errors_name_the_line_and_the_key() {
        let cases = [
            (
                "a value of the wrong type",
                "viewer:\n  lag_ms_max: soon\n",
                "c.yaml:2:15: viewer.lag_ms_max: invalid type: string \"soon\", expected a whole number",
            ),
            (
                "a negative number",
                "viewer:\n  lag_ms_max: -1\n",
                "c.yaml:2:15: viewer.lag_ms_max: invalid type: integer `-1`, expected a whole number",
            ),
            (
                "an unknown section",
                "viewers:\n  lag_ms_max: 5\n",
                "c.yaml:1:1: viewers: unknown key, expected one of `server`, `rtmp`, `http`, `hls`, `rtsp`, `rtp`, `gb28181`, `auth`, `tls`, `stream`, `viewer`, `record`, `limits`, `control`, `metrics`",
            ),
            (
                "an unknown key",
                "server:\n  shards: 2\n  drain: 5\n",
                "c.yaml:3:3: server.drain: unknown key, expected one of `runtime`, `shards`, `drain_ms`, `data`",
            ),
            ("a key twice", "server:\n  shards: 2\n  shards: 3\n", "c.yaml:3: server.shards: is there twice"),
            ("no mapping at all", "- 1\n", "c.yaml:1:1: invalid type: sequence, expected a section of keys"),
            (
                "an unknown word",
                "server:\n  runtime: uring\n",
                "c.yaml:2:12: server.runtime: unknown variant `uring`, expected one of `auto`, `io_uring`, `epoll`",
            ),
            (
                "no shards",
                "server:\n  shards: 0\n",
                "c.yaml:2:11: server.shards: invalid value: integer `0`, expected `auto` or a number from 1 to 256",
            ),
            (
                "too many shards",
                "server:\n  shards: 65537\n",
                "c.yaml:2:11: server.shards: invalid value: integer `65537`, expected `auto` or a number from 1 to 256",
            ),
            (
                "a word for shards",
                "server:\n  shards: many\n",
                "c.yaml:2:11: server.shards: invalid value: string \"many\", expected `auto` or a number from 1 to 256",
            ),
            (
                "no address",
                "rtmp:\n  listen:\n    - localhost\n",
                "c.yaml:3:7: rtmp.listen[0]: expected an IP address with a port, such as 0.0.0.0:1935 or \"[::]:1935\"",
            ),
            (
                "one port for a range",
                "rtsp:\n  udp_ports: 20000\n",
                "c.yaml:2:14: rtsp.udp_ports: invalid type: integer `20000`, expected a range of ports such as 20000-29999",
            ),
            (
                "a range that ends before it begins",
                "rtsp:\n  udp_ports: 30000-20000\n",
                "c.yaml:2:14: rtsp.udp_ports: invalid value: string \"30000-20000\", expected a range of ports such as 20000-29999",
            ),
            (
                "a lone address",
                "rtmp:\n  listen: 0.0.0.0:1935\n",
                "c.yaml:2:11: rtmp.listen: invalid type: string \"0.0.0.0:1935\", expected a list",
            ),
            (
                "broken YAML",
                "server:\n\tshards: 2\n",
                "c.yaml:2:1: found character that cannot start any token, while scanning for the next token",
            ),
        ];
        for (name, yaml, expected) in cases {
            assert_eq!(sentence(yaml, &[]), expected, "{name}");
        }
    }

    #[test]
    fn invalid_values_name_their_line() {
        let cases = [
            (
                "after comments",
                "# head\n\nviewer:\n  # soon\n  lag_ms_max: 0\n",
                "c.yaml:5: viewer.lag_ms_max: must be 1 to 60000",
            ),
            (
                "the right section",
                "stream:\n  gop_ms_max: 9\nlimits:\n  idle_ms_max: 0\n",
                "c.yaml:4: limits.idle_ms_max: must be 1 to 86400000",
            ),
            ("flow style", "viewer: {lag_ms_max: 0}\n", "c.yaml:1: viewer.lag_ms_max: must be 1 to 60000"),
            ("quoted", "\"viewer\":\n    'lag_ms_max': 0\n", "c.yaml:2: viewer.lag_ms_max: must be 1 to 60000"),
            (
                "at odds with a default",
                "viewer:\n  lag_ms_max: 20000\n",
                "c.yaml:1: viewer.stall_ms_max: must be at least viewer.lag_ms_max (20000)",
            ),
        ];
        for (name, yaml, expected) in cases {
            assert_eq!(sentence(yaml, &[]), expected, "{name}");
        }
    }

    #[test]
    fn options_replace_what_the_file_says() {
        let yaml = "server:\n  shards: 2\nrtmp:\n  listen: [127.0.0.1:1]\n";
        let set =
            options(&["server.shards=4", "server.runtime=epoll", "http.allow_origin=", "rtmp.listen=[127.0.0.1:0, '[::1]:0']"]);
        let config = parse("c.yaml", yaml, &set).unwrap();
        let deeper = load(None, &options(&["rtsp.multicast.ttl=3"])).unwrap();
        assert_eq!(deeper.rtsp.multicast.ttl, 3);
        assert_eq!((config.server.shards, config.server.runtime), (Shards::Fixed(4), Runtime::Epoll));
        assert_eq!(config.rtmp.listen, ["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()]);
        assert_eq!(config.http.allow_origin, "");
        assert_eq!(load(None, &options(&["server.shards=auto"])).unwrap(), Config::default());
    }

    #[test]
    fn errors_in_options_name_the_option() {
        let cases = [
            ("server.shard=4", "--set server.shard=4: there is no key `server.shard`"),
            ("servers.shards=4", "--set servers.shards=4: there is no key `servers`"),
            ("rtsp.multicast.hops=4", "--set rtsp.multicast.hops=4: there is no key `rtsp.multicast.hops`"),
            ("server.shards.x=4", "--set server.shards.x=4: there is no key `server.shards.x`"),
            ("viewer.lag_ms_max=x", "--set viewer.lag_ms_max=x: invalid type: string \"x\", expected a whole number"),
            ("viewer.lag_ms_max=0", "--set viewer.lag_ms_max=0: viewer.lag_ms_max: must be 1 to 60000"),
            ("rtmp.listen=[", "--set rtmp.listen=[: did not find expected node content, while parsing a flow node"),
        ];
        for (set, expected) in cases {
            assert_eq!(sentence("viewer:\n  lag_ms_max: 7\n", &[set]), expected);
        }
        for text in ["shards=4", "server.shards", ".a=1", "a.=1", "=", ""] {
            assert!(text.parse::<Override>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_text_of_digits_is_a_text() {
        let set = ["gb28181.password=12345678", "gb28181.id=34020000002000000001", "auth.realm=true", "server.shards=2"];
        let config = parse("c.yaml", "", &options(&set)).unwrap();
        assert_eq!((config.gb28181.password.as_str(), config.gb28181.id.as_str()), ("12345678", "34020000002000000001"));
        assert_eq!((config.auth.realm.as_str(), config.server.shards), ("true", Shards::Fixed(2)));
    }

    #[test]
    fn ids_in_lists_are_texts_in_options_and_in_files() {
        let devices = "[{id: 34020000001320000001, password: 1234}, {id: '34020000001320000002', password: 1.50}]";
        let file = format!("gb28181:\n  devices: {devices}\n");
        let set = options(&[&format!("gb28181.devices={devices}")]);
        for config in [parse("c.yaml", &file, &[]).unwrap(), load(None, &set).unwrap()] {
            let devices: Vec<_> = config.gb28181.devices.iter().map(|device| (&device.id[..], &device.password[..])).collect();
            assert_eq!(devices, [("34020000001320000001", "1234"), ("34020000001320000002", "1.50")]);
        }
        let block = "rtmp.listen=- 127.0.0.1:0\n- '[::1]:0'";
        assert_eq!(load(None, &options(&[block])).unwrap().rtmp.listen.len(), 2, "over several lines");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_one_sentence() {
        let error = load(Some(Path::new("/nonexistent/c.yaml")), &[]).unwrap_err();
        assert_eq!(error.to_string(), "cannot read /nonexistent/c.yaml: No such file or directory (os error 2)");
    }
}
