//! How to reach the brokers: shared by producer, consumer and admin.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;

/// The brokers, who is calling, and free librdkafka options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSettings {
    /// `host:port` list, separated by commas.
    pub brokers: String,
    /// Name shown in the brokers' logs and quotas.
    pub client_id: String,
    /// Further options by librdkafka's names (TLS, SASL, sizes); they win over the defaults of this crate.
    pub options: BTreeMap<String, String>,
}

impl ClientSettings {
    /// Brokers and client id without further options.
    #[must_use]
    pub fn new(brokers: impl Into<String>, client_id: impl Into<String>) -> Self {
        Self { brokers: brokers.into(), client_id: client_id.into(), options: BTreeMap::new() }
    }

    /// `defaults`, then what every client of this crate has in common, then the free options.
    pub(crate) fn config(&self, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        // The library waits up to 10 s between attempts by default: too long after an outage has ended.
        config.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "1000");
        config.set("socket.keepalive.enable", "true").set("socket.nagle.disable", "true");
        for (name, value) in defaults {
            config.set(*name, *value);
        }
        config.set("bootstrap.servers", &self.brokers).set("client.id", &self.client_id);
        for (name, value) in &self.options {
            config.set(name, value);
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_options_win_over_defaults() {
        let mut settings = ClientSettings::new("broker:9092", "relay");
        settings.options.insert("reconnect.backoff.max.ms".to_owned(), "77".to_owned());
        settings.options.insert("linger.ms".to_owned(), "3".to_owned());
        let config = settings.config(&[("linger.ms", "9"), ("acks", "all")]);
        let value = |name: &str| config.get(name).map(str::to_owned);
        assert_eq!(value("reconnect.backoff.max.ms").as_deref(), Some("77"));
        assert_eq!(value("linger.ms").as_deref(), Some("3"));
        assert_eq!(value("acks").as_deref(), Some("all"));
        assert_eq!(value("bootstrap.servers").as_deref(), Some("broker:9092"));
    }
}
