//! The proxies that the API has, and what can be done to them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::address::{is_same, resolve};
use crate::data_plane::{DataPlane, ToxicChange};
use crate::error::ApiError;
use crate::json::Json;
use crate::toxic::Toxic;

/// A place to listen, and where its clients are connected to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ToxicProxy {
    /// Its name.
    pub name: String,
    /// Where it listens; as the client wrote it until it has listened for the first time.
    pub listen: String,
    /// Where clients are connected to, as the client of the API wrote it.
    pub upstream: String,
    /// Whether it listens.
    pub enabled: bool,
    /// Those of the upstream direction first, each direction in the order in which they came.
    pub toxics: Vec<Toxic>,
}

/// All proxies, and what carries their traffic.
#[derive(Debug)]
pub struct ProxyRegistry<D> {
    data_plane: D,
    proxies: BTreeMap<String, ToxicProxy>,
    /// Those with fault rules that a client of the API has put.
    scheduled: BTreeSet<String>,
}

/// What a list of proxies led to.
#[derive(Debug, PartialEq)]
pub struct Populated {
    /// Those of the list that are there now, in its order; `None`: the list was refused.
    pub proxies: Option<Vec<ToxicProxy>>,
    /// What ended it.
    pub error: Option<ApiError>,
}

impl ToxicProxy {
    /// Replaces what a client gives; returns the toxics that it gives, which do not replace any.
    fn merge(&mut self, given: Json) -> Result<Json, ApiError> {
        let mut toxics = Json::Null;
        for (key, value) in given.members("proxy").map_err(ApiError::body)? {
            let outcome = match key.as_str() {
                "name" => value.replace_text(&key, &mut self.name),
                "listen" => value.replace_text(&key, &mut self.listen),
                "upstream" => value.replace_text(&key, &mut self.upstream),
                "enabled" => value.replace_flag(&key, &mut self.enabled),
                "toxics" => {
                    toxics = value;
                    Ok(())
                }
                _ => Ok(()),
            };
            outcome.map_err(ApiError::body)?;
        }
        Ok(toxics)
    }

    /// The proxy that a client wants, and which is not there yet.
    fn read(json: Json) -> Result<ToxicProxy, ApiError> {
        let [name, listen, upstream] = [const { String::new() }; 3];
        let mut proxy = ToxicProxy { name, listen, upstream, enabled: true, toxics: vec![] };
        let toxics = proxy.merge(json)?;
        if proxy.name.is_empty() {
            return Err(ApiError::missing("name"));
        }
        if proxy.upstream.is_empty() {
            return Err(ApiError::missing("upstream"));
        }
        for toxic in toxics.values("toxics").map_err(ApiError::body)? {
            let toxic = Toxic::read(toxic, |name| proxy.has_toxic(name))?;
            proxy.insert(toxic);
        }
        Ok(proxy)
    }

    fn has_toxic(&self, name: &str) -> bool {
        self.toxics.iter().any(|toxic| toxic.name == name)
    }

    /// Adds a toxic after those of its direction; returns its place.
    fn insert(&mut self, toxic: Toxic) -> usize {
        let direction = toxic.direction();
        let place = self.toxics.partition_point(|other| other.direction() <= direction);
        self.toxics.insert(place, toxic);
        place
    }

    fn find(&self, toxic: &str) -> Result<usize, ApiError> {
        let place = self.toxics.iter().position(|it| it.name == toxic);
        place.ok_or_else(ApiError::no_toxic)
    }

    /// Has it listen, with its toxics.
    fn start(&mut self, data_plane: &mut impl DataPlane) -> Result<(), ApiError> {
        let address = resolve(&self.listen, |host| data_plane.look_up(host))
            .map_err(|fault| ApiError::network(format!("listen tcp: {fault}")))?;
        let started = data_plane.start(&self.name, address, &self.upstream, &self.toxics);
        let address = started.map_err(|error| {
            // Every interface can be said in several ways.
            let is_everywhere = address.ip().is_unspecified();
            let shown = if is_everywhere { self.listen.clone() } else { address.to_string() };
            ApiError::listen(&shown, &error)
        })?;
        (self.listen, self.enabled) = (address.to_string(), true);
        Ok(())
    }

    /// Whether that text stands for the place where it listens, or would.
    ///
    /// # Errors
    ///
    /// 500 if it stands for none.
    fn is_at(&self, listen: &str, data_plane: &mut impl DataPlane) -> Result<bool, ApiError> {
        let mut resolve = |text| resolve(text, |host| data_plane.look_up(host));
        let address = resolve(listen).map_err(ApiError::network)?;
        Ok(resolve(&self.listen).is_ok_and(|present| is_same(address, present)))
    }

    fn stop(&mut self, data_plane: &mut impl DataPlane) {
        if self.enabled {
            data_plane.stop(&self.name);
            self.enabled = false;
        }
    }

    /// Has the data plane use the toxics as they are now.
    fn apply(&self, data_plane: &mut impl DataPlane, change: ToxicChange<'_>) {
        if self.enabled {
            data_plane.set_toxics(&self.name, &self.toxics, change);
        }
    }
}

impl<D: DataPlane> ProxyRegistry<D> {
    /// No proxies.
    pub const fn new(data_plane: D) -> ProxyRegistry<D> {
        ProxyRegistry { data_plane, proxies: BTreeMap::new(), scheduled: BTreeSet::new() }
    }

    /// What carries the traffic. The proxies there are those of this registry.
    pub(crate) fn data_plane(&mut self) -> &mut D {
        &mut self.data_plane
    }

    /// Takes over a proxy that listens already.
    pub fn adopt(&mut self, proxy: ToxicProxy) {
        self.proxies.insert(proxy.name.clone(), proxy);
    }

    /// All proxies by their names.
    pub fn proxies(&self) -> &BTreeMap<String, ToxicProxy> {
        &self.proxies
    }

    /// The proxy of that name.
    ///
    /// # Errors
    ///
    /// 404 if there is none.
    pub fn proxy(&self, name: &str) -> Result<&ToxicProxy, ApiError> {
        self.proxies.get(name).ok_or_else(ApiError::no_proxy)
    }

    /// The toxic of that name.
    ///
    /// # Errors
    ///
    /// 404 if there is no such proxy, or it has no such toxic.
    pub fn toxic(&self, proxy: &str, toxic: &str) -> Result<&Toxic, ApiError> {
        let proxy = self.proxy(proxy)?;
        Ok(&proxy.toxics[proxy.find(toxic)?])
    }

    /// Makes the proxy of a body, with the toxics in it, and has it listen unless it is to be
    /// disabled.
    ///
    /// # Errors
    ///
    /// 400 for the body, 409 if there is one of that name, 500 if it cannot listen; nothing has
    /// changed then.
    pub fn create(&mut self, body: &[u8]) -> Result<&ToxicProxy, ApiError> {
        let mut proxy = ToxicProxy::read(Json::first(body).map_err(ApiError::body)?)?;
        if self.proxies.contains_key(&proxy.name) {
            return Err(ApiError::proxy_exists());
        }
        if std::mem::take(&mut proxy.enabled) {
            proxy.start(&mut self.data_plane)?;
        }
        Ok(self.proxies.entry(proxy.name.clone()).or_insert(proxy))
    }

    /// Changes where a proxy listens, where it connects to and whether it is enabled, as far as
    /// the body says. Any other place than before closes its connections.
    ///
    /// # Errors
    ///
    /// 404, 400 for the body, 500 if the address makes no sense; nothing has changed then. 500 if
    /// it cannot listen: then it is disabled.
    pub fn update(&mut self, name: &str, body: &[u8]) -> Result<&ToxicProxy, ApiError> {
        let proxy = self.proxies.get_mut(name).ok_or_else(ApiError::no_proxy)?;
        let mut wanted = proxy.clone();
        wanted.merge(Json::first(body).map_err(ApiError::body)?)?;
        let is_same_place = proxy.is_at(&wanted.listen, &mut self.data_plane)?;
        if !is_same_place || wanted.upstream != proxy.upstream {
            proxy.stop(&mut self.data_plane);
            proxy.upstream = wanted.upstream;
        }
        if !is_same_place {
            proxy.listen = wanted.listen;
        }
        match (wanted.enabled, proxy.enabled) {
            (true, false) => proxy.start(&mut self.data_plane)?,
            (false, true) => proxy.stop(&mut self.data_plane),
            _ => {}
        }
        Ok(proxy)
    }

    /// Removes a proxy with its fault rules, and closes its connections.
    ///
    /// # Errors
    ///
    /// 404 if there is none of that name.
    pub fn delete(&mut self, name: &str) -> Result<(), ApiError> {
        let mut proxy = self.proxies.remove(name).ok_or_else(ApiError::no_proxy)?;
        proxy.stop(&mut self.data_plane);
        self.forget(name);
        Ok(())
    }

    /// Nothing is left of a stopped proxy for the next one of its name.
    fn forget(&mut self, name: &str) {
        self.scheduled.remove(name);
        self.data_plane.forget(name);
    }

    /// The fault rules of a proxy besides its toxics, one per line.
    ///
    /// # Errors
    ///
    /// 404 if there is no such proxy.
    pub fn schedule(&mut self, proxy: &str) -> Result<String, ApiError> {
        self.proxy(proxy)?;
        Ok(self.data_plane.schedule(proxy))
    }

    /// Replaces the fault rules of a proxy besides its toxics; an empty text removes them.
    ///
    /// # Errors
    ///
    /// 404 if there is no such proxy, 400 for the text; nothing has changed then.
    pub fn set_schedule(&mut self, proxy: &str, text: &str) -> Result<(), ApiError> {
        self.proxy(proxy)?;
        self.data_plane.set_schedule(proxy, text).map_err(ApiError::schedule)?;
        self.scheduled.insert(proxy.to_owned());
        Ok(())
    }

    /// Makes the proxies of a list: the body of a request, or what a file says. Those that are
    /// there already stay as they are if they listen and connect at the same places, and are
    /// replaced otherwise. Others stay.
    pub fn populate(&mut self, body: &[u8]) -> Populated {
        let list = match read_list(body) {
            Ok(list) => list,
            Err(error) => return Populated { proxies: None, error: Some(error) },
        };
        let mut done = vec![];
        for proxy in list {
            match self.add_or_replace(proxy) {
                Ok(proxy) => done.push(proxy.clone()),
                Err(error) => return Populated { proxies: Some(done), error: Some(error) },
            }
        }
        Populated { proxies: Some(done), error: None }
    }

    fn add_or_replace(&mut self, mut proxy: ToxicProxy) -> Result<&ToxicProxy, ApiError> {
        let data_plane = &mut self.data_plane;
        let mut is_kept = false;
        if let Some(present) = self.proxies.get_mut(&proxy.name) {
            is_kept =
                present.is_at(&proxy.listen, data_plane)? && proxy.upstream == present.upstream;
            if !is_kept {
                present.stop(data_plane);
                self.forget(&proxy.name);
            }
        }
        let name = proxy.name.clone();
        if !is_kept {
            if std::mem::take(&mut proxy.enabled) {
                proxy.start(&mut self.data_plane)?;
            }
            self.proxies.insert(name.clone(), proxy);
        }
        Ok(&self.proxies[&name])
    }

    /// Enables all proxies, and removes their toxics, and the fault rules that clients have put.
    ///
    /// # Errors
    ///
    /// 500 for the first that cannot listen; those after it, by name, stay as they were.
    pub fn reset(&mut self) -> Result<(), ApiError> {
        for name in std::mem::take(&mut self.scheduled) {
            self.data_plane.set_schedule(&name, "").map_err(ApiError::schedule)?;
        }
        for proxy in self.proxies.values_mut() {
            let removed = std::mem::take(&mut proxy.toxics);
            if !proxy.enabled {
                if let Err(error) = proxy.start(&mut self.data_plane) {
                    proxy.toxics = removed;
                    return Err(error);
                }
            } else if !removed.is_empty() {
                proxy.apply(&mut self.data_plane, ToxicChange::Removed(&removed));
            }
        }
        Ok(())
    }

    /// Adds the toxic of a body to a proxy.
    ///
    /// # Errors
    ///
    /// 404 without that proxy, 400 for the body, 409 if it has a toxic of that name.
    pub fn add_toxic(&mut self, proxy: &str, body: &[u8]) -> Result<&Toxic, ApiError> {
        let proxy = self.proxies.get_mut(proxy).ok_or_else(ApiError::no_proxy)?;
        let json = Json::first(body).map_err(ApiError::body)?;
        let toxic = Toxic::read(json, |name| proxy.has_toxic(name))?;
        let place = proxy.insert(toxic);
        let added = &proxy.toxics[place];
        proxy.apply(&mut self.data_plane, ToxicChange::Added(added));
        Ok(added)
    }

    /// Changes how much of it a toxic does, as far as the body says.
    ///
    /// # Errors
    ///
    /// 404 without that proxy or toxic, 400 for the body.
    pub fn update_toxic(
        &mut self,
        proxy: &str,
        toxic: &str,
        body: &[u8],
    ) -> Result<&Toxic, ApiError> {
        let proxy = self.proxies.get_mut(proxy).ok_or_else(ApiError::no_proxy)?;
        let place = proxy.find(toxic)?;
        let json = Json::first(body).map_err(ApiError::body)?;
        proxy.toxics[place] = proxy.toxics[place].updated(json)?;
        let updated = &proxy.toxics[place];
        proxy.apply(&mut self.data_plane, ToxicChange::Updated(updated));
        Ok(updated)
    }

    /// Removes a toxic.
    ///
    /// # Errors
    ///
    /// 404 without that proxy or toxic.
    pub fn remove_toxic(&mut self, proxy: &str, toxic: &str) -> Result<(), ApiError> {
        let proxy = self.proxies.get_mut(proxy).ok_or_else(ApiError::no_proxy)?;
        let removed = proxy.toxics.remove(proxy.find(toxic)?);
        proxy.apply(&mut self.data_plane, ToxicChange::Removed(&[removed]));
        Ok(())
    }
}

/// The proxies of a list, all of which make sense.
fn read_list(body: &[u8]) -> Result<Vec<ToxicProxy>, ApiError> {
    let json = Json::first(body).map_err(ApiError::body)?;
    let list = json.values("list of proxies").map_err(ApiError::body)?;
    let read = |(json, number)| ToxicProxy::read(json).map_err(|error| error.at_proxy(number));
    list.into_iter().zip(1..).map(read).collect()
}
