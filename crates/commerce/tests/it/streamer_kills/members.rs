//! Streamers of the same groups, each in a place with a name of its own that its successor takes over.

use anyhow::{Context, Result, ensure};

use crate::harness::{Role, Shop};

/// The shortest that brokers take, so that the partitions of a member that stays away move soon.
const SESSION_TIMEOUT: &str = "6s";

/// The members that are there all the time.
pub(super) struct Members<'a> {
    shop: &'a Shop,
    places: Vec<Option<Role>>,
}

impl<'a> Members<'a> {
    /// So many, all of them ready.
    pub(super) async fn begin(shop: &'a Shop, count: usize) -> Result<Self> {
        let mut members = Self { shop, places: (0..count).map(|_| None).collect() };
        for place in 0..count {
            members.replace(place, None)?;
        }
        for place in 0..count {
            members.ready(place).await?;
        }
        Ok(members)
    }

    pub(super) fn count(&self) -> usize {
        self.places.len()
    }

    fn name(&self, place: usize) -> String {
        format!("{}streamer-{place}", self.shop.topics.prefix())
    }

    /// Ends the member at a place by `kill -9`, wherever it is, and begins its successor, who is to die at `point`.
    pub(super) fn replace(&mut self, place: usize, point: Option<&str>) -> Result<()> {
        // The name must be free.
        self.places[place] = None;
        let failpoint = point.map(|point| format!("{point}=return"));
        self.places[place] = Some(self.spawn(&self.name(place), failpoint.as_deref())?);
        Ok(())
    }

    /// One more member, without a name, so that it leaves the groups when it stops.
    pub(super) fn guest(&self) -> Result<Role> {
        self.spawn("", None)
    }

    fn spawn(&self, name: &str, failpoint: Option<&str>) -> Result<Role> {
        let variables = [
            ("COMMERCE_PROCESS_INSTANCE", name),
            ("COMMERCE_STREAMER_SESSION_TIMEOUT", SESSION_TIMEOUT),
            // What is sent on purpose is no flood, and needs no line for each.
            ("COMMERCE_STREAMER_FLOOD_IN_A_ROW", "0"),
            ("COMMERCE_LOG_FILTER", "warn,inbox::engine::work=error"),
        ];
        let failpoint = failpoint.map(|failpoint| ("FAILPOINTS", failpoint));
        let variables: Vec<(&str, &str)> = variables.into_iter().chain(failpoint).collect();
        self.shop.spawn_with("streamer", &variables)
    }

    /// The member at a place.
    pub(super) fn at(&mut self, place: usize) -> Result<&mut Role> {
        self.places[place].as_mut().with_context(|| format!("nobody is at place {place}"))
    }

    /// Waits until the member at a place is a settled one of its groups.
    pub(super) async fn ready(&mut self, place: usize) -> Result<()> {
        let shop = self.shop;
        shop.ready(self.at(place)?).await
    }

    /// Whether the member at a place was the last that wrote on some partition.
    pub(super) async fn is_owner(&self, place: usize) -> Result<bool> {
        let owned = "select exists (select from inbox.progress where starts_with(owner, $1))";
        let name = format!("{}-", self.name(place));
        Ok(sqlx::query_scalar(owned).bind(name).fetch_one(&mut self.shop.connect().await?).await?)
    }
}

/// Asks a member to stop, and waits until it has done so in order.
pub(super) async fn stop(mut member: Role) -> Result<()> {
    member.terminate()?;
    let status = member.ended().await?;
    ensure!(status.success(), "a streamer that was asked to stop ended with {status}");
    Ok(())
}
