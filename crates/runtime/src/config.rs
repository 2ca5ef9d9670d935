//! Layered configuration: embedded defaults, then a file, then environment variables.
//!
//! A variable `COMMERCE_<SECTION>_<KEY>` sets `<key>` of `[<section>]`: `COMMERCE_KAFKA_TOPIC_PREFIX` is
//! `kafka.topic_prefix`. Unknown keys are errors, wherever they stand; the target types deny unknown fields.

use std::path::{Path, PathBuf};

use figment::providers::{Env, Format, Toml};
use figment::{Figment, Provider};
use serde::de::DeserializeOwned;
use thiserror::Error;

/// What every variable of ours begins with.
pub const VARIABLE_PREFIX: &str = "COMMERCE_";

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The named file is not there.
    #[error("configuration file {0} does not exist")]
    NoFile(PathBuf),
    /// A key is unknown, missing, or of the wrong kind; the text names key and layer.
    #[error("invalid configuration: {0}")]
    Invalid(Box<figment::Error>),
}

/// Loads `T` from `defaults` (TOML text), then `file` if given, then the environment.
///
/// `ignored` names variables with our prefix that belong to tools, not to the configuration.
///
/// # Errors
/// [`ConfigError`] names the key and the layer at fault.
pub fn load<T: DeserializeOwned>(
    defaults: &str,
    file: Option<&Path>,
    ignored: &'static [&'static str],
) -> Result<T, ConfigError> {
    let variables = Env::prefixed(VARIABLE_PREFIX)
        .filter(move |key| !ignored.iter().any(|name| key.as_str().eq_ignore_ascii_case(name)))
        .map(|key| key.as_str().to_ascii_lowercase().replacen('_', ".", 1).into());
    layered(defaults, file, variables)
}

/// The layers, lowest first.
fn layered<T: DeserializeOwned>(
    defaults: &str,
    file: Option<&Path>,
    variables: impl Provider,
) -> Result<T, ConfigError> {
    let mut layers = Figment::from(Toml::string(defaults));
    if let Some(path) = file {
        if !path.exists() {
            return Err(ConfigError::NoFile(path.to_owned()));
        }
        layers = layers.merge(Toml::file_exact(path));
    }
    layers.merge(variables).extract().map_err(|error| ConfigError::Invalid(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use figment::providers::{Format, Toml};

    use super::{layered, load};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        kafka: Kafka,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Kafka {
        topic_prefix: String,
    }

    const DEFAULTS: &str = "[kafka]\ntopic_prefix = 'shop-'\n";

    #[test]
    fn defaults_alone_are_enough() {
        let settings: Settings = layered(DEFAULTS, None, Toml::string("")).unwrap();
        assert_eq!(settings.kafka.topic_prefix, "shop-");
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let file = std::env::temp_dir().join(format!("commerce-config-{}.toml", std::process::id()));
        std::fs::write(&file, "[kafka]\ntopic_prefx = 'x'\n").unwrap();
        let error = layered::<Settings>(DEFAULTS, Some(&file), Toml::string("")).unwrap_err();
        std::fs::remove_file(&file).unwrap();
        assert!(error.to_string().contains("topic_prefx"), "{error}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = load::<Settings>(DEFAULTS, Some("/nowhere/commerce.toml".as_ref()), &[]).unwrap_err();
        assert!(error.to_string().contains("/nowhere/commerce.toml"), "{error}");
    }
}
