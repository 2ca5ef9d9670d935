//! Commands on their way from callers to a writer, and answers on their way back.
//!
//! - A command is taken at most once, and only before its caller went away or withdrew it: whoever moves its ticket first
//!   decides, the writer by taking it or the caller by withdrawing it.
//! - A caller who withdrew knows whether he was in time. An answer reaches the caller of its command and nobody else.
//! - Nobody waits for ever: a caller whose command is given up by the writer, in whatever way, is told so.
//! - The queue is bounded; what does not fit is refused at once.
//!
//! Deliberately absent: what is done with commands.

use std::sync::Arc;
#[cfg(not(test))]
use std::sync::atomic::{AtomicU8, Ordering};

// Under test `shuttle` runs the schedules, and this is where it switches.
#[cfg(test)]
use shuttle::sync::atomic::{AtomicU8, Ordering};
use tokio::sync::{mpsc, oneshot};

/// Who decides about a waiting command: whoever moves it out of `WAITING` first.
#[derive(Default)]
struct Ticket(AtomicU8);

const WAITING: u8 = 0;
const TAKEN: u8 = 1;
const WITHDRAWN: u8 = 2;

impl Ticket {
    fn decide(&self, state: u8) -> bool {
        self.0.compare_exchange(WAITING, state, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

struct Pending<C, A> {
    command: C,
    ticket: Arc<Ticket>,
    caller: Caller<A>,
}

/// No room in the queue, or nobody who works on it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// Takes commands `C` for the writer, which are answered with an `A`.
pub(crate) struct Queue<C, A> {
    pending: mpsc::Sender<Pending<C, A>>,
}

/// A command in the queue. Dropping it withdraws the command if it is still waiting.
pub(crate) struct Waiting<A> {
    ticket: Arc<Ticket>,
    answer: oneshot::Receiver<A>,
}

/// The writer's end of a [`Queue`].
pub(crate) struct Arrivals<C, A> {
    pending: mpsc::Receiver<Pending<C, A>>,
    batch: Vec<Pending<C, A>>,
    batch_max: usize,
}

/// Commands that the writer has, in the order of their arrival, and who waits for them. Dropping it gives them up.
pub(crate) struct Taken<C, A> {
    pub(crate) commands: Vec<C>,
    /// As many, in the same order.
    pub(crate) callers: Vec<Caller<A>>,
}

/// Who waits for one command.
pub(crate) struct Caller<A>(oneshot::Sender<A>);

/// A queue of at most `queue_max` commands, of which up to `batch_max` are taken together.
pub(crate) fn hand_over<C, A>(queue_max: usize, batch_max: usize) -> (Queue<C, A>, Arrivals<C, A>) {
    let (sender, pending) = mpsc::channel(queue_max);
    (Queue { pending: sender }, Arrivals { pending, batch: Vec::with_capacity(batch_max), batch_max })
}

impl<C, A> Queue<C, A> {
    /// Hands a command to the writer.
    ///
    /// # Errors
    /// [`Full`]: it is not executed.
    pub(crate) fn submit(&self, command: C) -> Result<Waiting<A>, Full> {
        let ticket = Arc::new(Ticket::default());
        let (sender, answer) = oneshot::channel();
        let pending = Pending { command, ticket: Arc::clone(&ticket), caller: Caller(sender) };
        self.pending.try_send(pending).map_err(|_| Full)?;
        Ok(Waiting { ticket, answer })
    }
}

impl<A> Waiting<A> {
    /// The answer; `None` when the writer gave the command up.
    pub(crate) async fn answer(&mut self) -> Option<A> {
        (&mut self.answer).await.ok()
    }

    /// Whether the command will never be executed; false when the writer has it.
    pub(crate) fn withdraw(&self) -> bool {
        self.ticket.decide(WITHDRAWN)
    }
}

impl<A> Drop for Waiting<A> {
    fn drop(&mut self) {
        self.withdraw();
    }
}

impl<C, A> Arrivals<C, A> {
    /// Waits for a command; false when the [`Queue`] is gone and nothing is left of it.
    pub(crate) async fn wait(&mut self) -> bool {
        self.pending.recv_many(&mut self.batch, self.batch_max).await > 0
    }

    /// Takes what has arrived until now and was not withdrawn.
    pub(crate) fn take(&mut self) -> Taken<C, A> {
        while self.batch.len() < self.batch_max {
            let Ok(pending) = self.pending.try_recv() else { break };
            self.batch.push(pending);
        }
        let taken = self.batch.drain(..).filter(|pending| pending.ticket.decide(TAKEN));
        let (commands, callers) = taken.map(|pending| (pending.command, pending.caller)).unzip();
        Taken { commands, callers }
    }
}

impl<C, A> Taken<C, A> {
    /// Answers each; `answers` are in the order of the commands.
    pub(crate) fn answer(self, answers: Vec<A>) {
        for (caller, answer) in self.callers.into_iter().zip(answers) {
            caller.answer(answer);
        }
    }

    /// Each command with its caller.
    pub(crate) fn singly(self) -> impl Iterator<Item = (C, Caller<A>)> {
        self.commands.into_iter().zip(self.callers)
    }
}

impl<A> Caller<A> {
    pub(crate) fn answer(self, answer: A) {
        // Fails when the caller went away meanwhile; nobody is left to tell.
        let _ = self.0.send(answer);
    }

    /// Waits until the caller has gone away.
    pub(crate) async fn gone(&mut self) {
        self.0.closed().await;
    }
}

#[cfg(test)]
mod tests {
    //! Played under schedules that `shuttle` chooses: it switches wherever a ticket is decided and wherever somebody waits, and
    //! says so when nobody can go on. One atomic decides, so the order of memory does not matter beyond it.

    use std::collections::BTreeSet;
    use std::sync::{Arc, Mutex};

    use futures_util::future::{Either, select};
    use shuttle::future::{block_on, spawn, yield_now};
    use shuttle::scheduler::{DfsScheduler, RandomScheduler, Scheduler};
    use shuttle::{Config, Runner};

    use super::{Arrivals, Queue, hand_over};

    /// What a caller does.
    #[derive(Clone, Copy)]
    enum Manner {
        /// Waits for the answer.
        Patient,
        /// Goes away at any moment.
        Leaving,
        /// At any moment has waited long enough: withdraws, or waits on when he is too late.
        Hasty,
    }

    /// What the writer does with those that it took.
    #[derive(Clone, Copy)]
    enum Work {
        Together,
        Singly,
        /// It dies before the answers.
        Dies,
    }

    /// What a caller knows in the end.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    enum Told {
        Full,
        Withdrawn,
        Answer(usize),
        GivenUp,
        /// He did not stay to hear.
        Left,
    }

    #[derive(Clone)]
    struct Scene {
        callers: Vec<Manner>,
        queue_max: usize,
        batch_max: usize,
        work: Work,
    }

    type Executions = Arc<Mutex<Vec<u32>>>;

    async fn call(queue: Arc<Queue<usize, usize>>, number: usize, manner: Manner) -> Told {
        let Ok(mut waiting) = queue.submit(number) else { return Told::Full };
        drop(queue);
        let told = |answer: Option<usize>| answer.map_or(Told::GivenUp, Told::Answer);
        if let Manner::Patient = manner {
            return told(waiting.answer().await);
        }
        // Ends whenever the schedule lets it.
        let moment = spawn(async {});
        let early = match select(Box::pin(waiting.answer()), moment).await {
            Either::Left((answer, _)) => Some(told(answer)),
            Either::Right(_) => None,
        };
        match (early, manner) {
            (Some(told), _) => told,
            (None, Manner::Hasty) if !waiting.withdraw() => told(waiting.answer().await),
            (None, Manner::Hasty) => Told::Withdrawn,
            (None, Manner::Leaving | Manner::Patient) => Told::Left,
        }
    }

    async fn execute(executions: &Executions, number: usize) -> usize {
        executions.lock().unwrap()[number] += 1;
        yield_now().await;
        number
    }

    async fn write(mut arrivals: Arrivals<usize, usize>, work: Work, executions: Executions) {
        while arrivals.wait().await {
            // While a transaction is begun.
            yield_now().await;
            let taken = arrivals.take();
            match work {
                Work::Together => {
                    let mut answers = Vec::new();
                    for number in &taken.commands {
                        answers.push(execute(&executions, *number).await);
                    }
                    taken.answer(answers);
                }
                Work::Singly => {
                    for (number, caller) in taken.singly() {
                        let executions = Arc::clone(&executions);
                        drop(spawn(async move { caller.answer(execute(&executions, number).await) }));
                    }
                }
                Work::Dies => {
                    for number in &taken.commands {
                        execute(&executions, *number).await;
                    }
                    return;
                }
            }
        }
    }

    /// What each caller was told, and how often his command was executed.
    fn play(scene: &Scene) -> Vec<(Told, u32)> {
        let executions: Executions = Arc::new(Mutex::new(vec![0; scene.callers.len()]));
        let told = block_on(async {
            let (queue, arrivals) = hand_over(scene.queue_max, scene.batch_max);
            let queue = Arc::new(queue);
            let callers = scene.callers.iter().enumerate();
            let callers: Vec<_> =
                callers.map(|(number, manner)| spawn(call(Arc::clone(&queue), number, *manner))).collect();
            drop(queue);
            let writer = spawn(write(arrivals, scene.work, Arc::clone(&executions)));
            let mut told = Vec::new();
            for caller in callers {
                told.push(caller.await.unwrap());
            }
            writer.await.unwrap();
            told
        });
        let executions = executions.lock().unwrap();
        told.into_iter().zip(executions.iter().copied()).collect()
    }

    fn judge(scene: &Scene, number: usize, told: Told, executed: u32) {
        let right = match told {
            Told::Full | Told::Withdrawn => executed == 0,
            Told::Answer(answer) => answer == number && executed == 1,
            Told::GivenUp => matches!(scene.work, Work::Dies) && executed <= 1,
            Told::Left => executed <= 1,
        };
        assert!(right, "caller {number} was told {told:?}, his command was executed {executed} times");
    }

    /// Plays a scene under the schedules; answers what they came to.
    fn outcomes(scene: &Scene, scheduler: impl Scheduler + 'static) -> BTreeSet<(&'static str, u32)> {
        let (scene, seen) = (scene.clone(), Arc::new(Mutex::new(BTreeSet::new())));
        let all = Arc::clone(&seen);
        let mut config = Config::new();
        config.silence_warnings = true;
        Runner::new(scheduler, config).run(move || {
            for (number, (told, executed)) in play(&scene).into_iter().enumerate() {
                judge(&scene, number, told, executed);
                let name = match told {
                    Told::Full => "full",
                    Told::Withdrawn => "withdrawn",
                    Told::Answer(_) => "answered",
                    Told::GivenUp => "given up",
                    Told::Left => "left",
                };
                all.lock().unwrap().insert((name, executed));
            }
        });
        let seen = seen.lock().unwrap();
        seen.clone()
    }

    /// Every schedule there is.
    fn every() -> impl Scheduler {
        DfsScheduler::new(None, false)
    }

    /// So many schedules, the same in each run.
    fn some() -> impl Scheduler {
        RandomScheduler::new_from_seed(7, 5_000)
    }

    #[test]
    fn either_the_writer_or_the_caller_has_a_command() {
        let scene =
            |manner| Scene { callers: vec![manner], queue_max: 1, batch_max: 1, work: Work::Together };
        let seen = outcomes(&scene(Manner::Hasty), every());
        assert_eq!(seen, BTreeSet::from([("withdrawn", 0), ("answered", 1)]));
        let seen = outcomes(&scene(Manner::Leaving), every());
        assert_eq!(seen, BTreeSet::from([("left", 0), ("left", 1), ("answered", 1)]));
    }

    #[test]
    fn each_of_many_is_told_the_truth() {
        let callers = [Manner::Hasty, Manner::Patient, Manner::Leaving, Manner::Hasty].to_vec();
        let scene = |work| Scene { callers: callers.clone(), queue_max: 3, batch_max: 2, work };
        let usual = [("full", 0), ("withdrawn", 0), ("answered", 1), ("left", 0), ("left", 1)];
        for work in [Work::Together, Work::Singly] {
            assert_eq!(outcomes(&scene(work), some()), BTreeSet::from(usual));
        }
        // Those whom it had taken, and those whom it never takes.
        let given_up =
            [("given up", 0), ("given up", 1), ("full", 0), ("withdrawn", 0), ("left", 0), ("left", 1)];
        assert_eq!(outcomes(&scene(Work::Dies), some()), BTreeSet::from(given_up));
    }
}
