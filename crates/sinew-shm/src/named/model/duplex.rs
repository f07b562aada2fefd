//! Servers and clients that come, go and die between any two steps: no client receives an answer to
//! another's question, and none skips one to its own.
//!
//! The rings are queues here, whose entries come and go as a whole: the other tests are about that.

use std::collections::{HashSet, VecDeque};

use super::super::recovery;

/// What is in a ring. A message is one to, or from, the client of that session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Entry {
    Label(u64),
    Message(u64),
}

/// An end that receives, and what it makes of labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Side {
    session: u64,
    /// The last label that was consumed, in this process.
    label: u64,
    /// It is about to release the label that it has stored in its slot.
    stored: bool,
    /// The label that it has published last.
    labelled: u64,
    /// A server's question to be answered, and the label of the answer, once it was handed over.
    question: Option<u64>,
    answer: Option<u64>,
}

impl Side {
    fn new(session: u64, label: u64) -> Self {
        Self {
            session,
            label,
            stored: false,
            labelled: 0,
            question: None,
            answer: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    requests: VecDeque<Entry>,
    answers: VecDeque<Entry>,
    /// The labels in the receivers' slots: of the requests, and of the answers.
    slots: [u64; 2],
    server: Option<Side>,
    client: Option<Side>,
    sessions: u64,
    servers_left: u8,
    clients_left: u8,
    questions_left: u8,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    OpenServer,
    OpenClient,
    KillServer,
    KillClient,
    Ask,
    /// The server hands an answer over for sending.
    Answer,
    /// It publishes the label, or the answer.
    PublishAnswer,
    ServerReceives,
    ClientReceives,
}

impl World {
    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        match &self.server {
            None if self.servers_left > 0 => steps.push(Step::OpenServer),
            None => {}
            Some(server) => {
                steps.push(Step::KillServer);
                match (server.question, server.answer) {
                    (_, Some(_)) => steps.push(Step::PublishAnswer),
                    (Some(_), None) => steps.push(Step::Answer),
                    (None, None) if self.requests.is_empty() => {}
                    (None, None) => steps.push(Step::ServerReceives),
                }
            }
        }
        match &self.client {
            None if self.clients_left > 0 => steps.push(Step::OpenClient),
            None => {}
            Some(_) => {
                steps.push(Step::KillClient);
                if self.questions_left > 0 {
                    steps.push(Step::Ask);
                }
                if !self.answers.is_empty() {
                    steps.push(Step::ClientReceives);
                }
            }
        }
        steps
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::OpenServer => {
                self.servers_left -= 1;
                self.server = Some(Side::new(0, self.slots[0]));
            }
            Step::OpenClient => {
                self.clients_left -= 1;
                self.sessions += 1;
                // It publishes its label with its first message, as it does where there is no room
                // at first.
                self.client = Some(Side::new(self.sessions, self.slots[1]));
            }
            Step::KillServer => self.server = None,
            Step::KillClient => self.client = None,
            Step::Ask => {
                let client = self.client.as_mut().unwrap();
                if client.labelled == client.session {
                    self.questions_left -= 1;
                    self.requests.push_back(Entry::Message(client.session));
                } else {
                    client.labelled = client.session;
                    self.requests.push_back(Entry::Label(client.session));
                }
            }
            Step::Answer => {
                let server = self.server.as_mut().unwrap();
                server.answer = Some(server.label);
            }
            Step::PublishAnswer => {
                let server = self.server.as_mut().unwrap();
                let label = server.answer.unwrap();
                if server.labelled == label {
                    server.answer = None;
                    let question = server.question.take().unwrap();
                    self.answers.push_back(Entry::Message(question));
                } else {
                    server.labelled = label;
                    self.answers.push_back(Entry::Label(label));
                }
            }
            Step::ServerReceives => {
                let server = self.server.as_mut().unwrap();
                let taken = receive(server, &mut self.requests, &mut self.slots[0]);
                server.question = taken;
            }
            Step::ClientReceives => {
                let client = self.client.as_mut().unwrap();
                let label = client.label;
                if let Some(to) = receive(client, &mut self.answers, &mut self.slots[1]) {
                    assert_eq!(
                        recovery::is_addressed(label, client.session),
                        to == client.session,
                        "an answer to the client {to}"
                    );
                }
            }
        }
    }
}

/// One step of a receiver: it stores a label in its slot, and releases it after that.
fn receive(side: &mut Side, ring: &mut VecDeque<Entry>, slot: &mut u64) -> Option<u64> {
    match *ring.front().unwrap() {
        Entry::Label(label) if !side.stored => {
            *slot = label;
            side.stored = true;
            None
        }
        Entry::Label(label) => {
            ring.pop_front();
            side.label = label;
            side.stored = false;
            None
        }
        Entry::Message(of) => {
            ring.pop_front();
            Some(of)
        }
    }
}

#[test]
fn answers_are_for_those_who_asked() {
    let first = World {
        requests: VecDeque::new(),
        answers: VecDeque::new(),
        slots: [0; 2],
        server: None,
        client: None,
        sessions: 0,
        servers_left: 3,
        clients_left: 3,
        questions_left: 3,
    };
    let mut seen = HashSet::from([first.clone()]);
    let mut stack = vec![first];
    while let Some(world) = stack.pop() {
        for step in world.steps() {
            let mut next = world.clone();
            next.run(step);
            if seen.insert(next.clone()) {
                stack.push(next);
            }
        }
    }
    assert!(seen.len() > 10_000, "{} states", seen.len());
}
