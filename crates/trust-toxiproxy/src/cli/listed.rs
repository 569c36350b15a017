//! Proxies as the answers of a server have them, ours or Toxiproxy.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A proxy. Members that are unknown are ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListedProxy {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub listen: String,
    /// Where its clients are connected to.
    pub upstream: String,
    /// Whether it listens.
    pub enabled: bool,
    /// What happens to its traffic.
    #[serde(default)]
    pub toxics: Vec<ListedToxic>,
}

/// A toxic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListedToxic {
    /// Its name, unique in its proxy.
    pub name: String,
    /// The word for what it is.
    #[serde(rename = "type")]
    pub type_name: String,
    /// The direction.
    pub stream: String,
    /// The share of the connections that have it.
    pub toxicity: f64,
    /// How much of it; by name, in the order of the alphabet.
    #[serde(default)]
    pub attributes: Map<String, Value>,
}

/// All proxies by their names.
pub type ListedProxies = BTreeMap<String, ListedProxy>;
