//! The api's commands without HTTP: what its routes do once a request is read. For measuring group commit alone.

use std::sync::Arc;

use crate::commands::Context;
use crate::commands::like_product::LikeProduct;
use crate::commands::place_order::PlaceOrder;
use crate::domain::order::{Wanted, merge_lines};
use crate::views::{Recorded, View};
use crate::{Api, App};

/// Why a command was not executed, or may not have been.
pub type CommandError = Box<dyn std::error::Error + Send + Sync>;

/// Hands commands to the writers of an api that was started.
#[derive(Clone)]
pub struct Commands {
    app: Arc<App>,
}

impl Api {
    /// Its commands; they are executed once it is started.
    #[must_use]
    pub fn commands(&self) -> Commands {
        Commands { app: Arc::clone(&self.app) }
    }
}

impl Commands {
    fn context(&self, user_id: i64) -> Context {
        Context { user_id, now: self.app.shop.now(), traceparent: None }
    }

    /// Places an order of so many units of each product; answers its id.
    ///
    /// # Errors
    /// As `POST /api/v1/orders` refuses.
    pub async fn place_order(&self, user_id: i64, units: &[(i64, i64)]) -> Result<i64, CommandError> {
        let items: Vec<Wanted> = units
            .iter()
            .map(|(product_id, quantity)| Wanted { product_id: *product_id, quantity: *quantity })
            .collect();
        let wanted = merge_lines(&items, self.app.settings.order_limits())?;
        let placed =
            self.app.orders.call(PlaceOrder { context: self.context(user_id), wanted, key: None }).await?;
        Ok(placed.order_id)
    }

    /// Gives a like or takes it back; answers whether that changed something.
    ///
    /// # Errors
    /// As `/api/v1/like/products/{id}` refuses.
    pub async fn change_like(
        &self,
        user_id: i64,
        product_id: i64,
        is_liked: bool,
    ) -> Result<bool, CommandError> {
        Ok(self.app.likes.call(LikeProduct { context: self.context(user_id), product_id, is_liked }).await?)
    }

    /// Records a view; answers whether it is committed.
    pub async fn record_view(&self, user_id: i64, product_id: i64) -> bool {
        let view =
            View { product_id, user_id: Some(user_id), viewed_at: self.app.shop.now(), traceparent: None };
        self.app.views.record(view).await == Recorded::Yes
    }
}
