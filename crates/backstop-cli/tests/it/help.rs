//! Help texts.

use super::kit::Place;
use expect_test::expect;

#[test]
fn the_overview() {
    let done = Place::new().run(&["--help"]);
    expect![[r#"
        exit 0
        --- stdout
        Keep AI agents running in production

        A task goes to a model that works on real files with tools until it is done: through rate limits,
        outages, malformed answers and a killed process, without a cent over budget and without doing
        anything twice.

        Usage: backstop [OPTIONS] <COMMAND>

        Commands:
          run        Do a task with a model and tools on the files of a directory
          resume     Take a run up where it was left
          resolve    Say what is true about a tool call in doubt
          apply      Carry out the plan of a dry run: exactly it, and once
          approvals  List what waits for a person's yes, and answer it
          cancel     End a run for good
          grants     List what was allowed beforehand, and end it
          undo       Take back what a run did, newest first
          erase      Erase what a run said, for good
          submit     Put a task into the queue, for a worker
          tasks      List what is in the queue, newest first; try tasks again, or end them
          batch      Do every task of a file, so many at a time
          jobs       List jobs: what is done when, and what came of it; run, pause and resume them
          worker     Work on what is in the queue
          runs       List runs, newest first
          show       Tell the whole story of a run
          logs       Print the JSON log lines, one per event
          stats      Show what was done, how well, how fast, and for how much
          alerts     Show what is wrong, and say what becomes of it
          query      Ask the record in SQL
          audit      Check the record of everything that happened, or export it
          tools      List the tools that agents may be given, and look after those of MCP servers
          keys       Make, list, rotate and revoke the keys of the gateway
          init       Write a commented backstop.toml
          check      Check the config, and probe each provider
          serve      Serve agents that exist already, in any language
          sim        Serve a simulated provider that fails on schedule
          demo       See it work: a dozen tasks through a storm of failures
          explain    Explain an error code, or the order of the stack
          help       Print this message or the help of the given subcommand(s)

        Options:
              --config <FILE>
                  Use this config file [default: ./backstop.toml, if there is one]

              --data-dir <DIR>
                  Keep everything in this directory [default: .backstop beside the config file]

          -h, --help
                  Print help (see a summary with '-h')

          -V, --version
                  Print version

        Examples:
          backstop demo                                  See it work, without any key
          backstop run "Summarise notes.md into out.md"   Do a task in this directory
          backstop runs                                  List what was run
          backstop show 01k                              Tell the whole story of a run
          backstop explain BS2003                        Look up an error

        Exit codes: 0 done, 1 the answer is no, 2 you must change something, 3 upstream failed.
    "#]]
    .assert_eq(&done.shown());
}

#[test]
fn run_in_full() {
    let done = Place::new().run(&["run", "--help"]);
    expect![[r#"
        exit 0
        --- stdout
        Do a task with a model and tools on the files of a directory

        The result goes to standard output, what happens on the way to standard error. Whatever stops it
        (Ctrl-C, a limit, a budget, a crash) leaves a run that `backstop resume` takes up where it was.

        Usage: backstop run [OPTIONS] [TASK]

        Arguments:
          [TASK]
                  What is to be done; read from standard input when left out

        Options:
              --config <FILE>
                  Use this config file [default: ./backstop.toml, if there is one]

              --file <FILE>
                  Read the task from this file

              --agent <NAME>
                  Run it as this agent of the config

              --data-dir <DIR>
                  Keep everything in this directory [default: .backstop beside the config file]

              --model <NAME>
                  Ask this model or chain; `sim` is always there and needs no key

              --workspace <DIR>
                  Work in this directory; nothing outside it is read or written

                  [default: .]

              --dry-run
                  Plan only: work on a copy of the directory, note what reaches beyond it, and print the
                  plan

              --id <ID>
                  Your own id for it, for logs and lists

              --max-cost <DOLLARS>
                  Spend at most so many dollars

              --time <SPAN>
                  Work at most so long [default: 3m]

              --turns <N>
                  Ask the model at most so often [default: 50]

              --tokens <N>
                  Use at most so many tokens [default: 1000000]

              --json
                  Print JSON

          -q, --quiet
                  Show nothing while it runs

          -h, --help
                  Print help (see a summary with '-h')

        Examples:
          backstop run "Write the sum of the column amount of expenses.csv to total.txt"
          backstop run --agent writer --workspace docs/ "Shorten intro.md"
          backstop run --file task.md --max-cost 0.50 --time 10m --json
          echo "Count the words in notes.md" | backstop run --model sim
    "#]]
    .assert_eq(&done.shown());
}

#[test]
fn keys_create_in_full() {
    let done = Place::new().run(&["keys", "create", "--help"]);
    expect![[r#"
        exit 0
        --- stdout
        Make a key, and show its secret once

        The secret goes to standard output, alone; everything else to standard error. What is not said is
        not limited by the key: the budgets and limits of the config hold all the same.

        Usage: backstop keys create [OPTIONS] <NAME>

        Arguments:
          <NAME>
                  Its name: budgets, limits and logs go by it, and it is never used again

        Options:
              --approver
                  A key for a person, to see and answer what agents ask; it asks no model, and no other key
                  approves anything

              --config <FILE>
                  Use this config file [default: ./backstop.toml, if there is one]

              --data-dir <DIR>
                  Keep everything in this directory [default: .backstop beside the config file]

              --viewer
                  A key for a person, to see the dashboard and change nothing on it; it asks no model and
                  answers nothing

              --submit
                  A key for a program, to put tasks into the queue and see what becomes of them; it asks no
                  model and answers nothing

              --agent <AGENT>
                  With --submit: an agent its tasks may be for; `*` stands for any letters; may be given
                  several times

              --role <ROLE>
                  The role its calls are made in, whatever they ask for

              --model <MODEL>
                  A model or chain it may ask for, by the client's name for it; `*` stands for any letters;
                  may be given several times

              --budget-day <DOLLARS>
                  Dollars it may spend per day (UTC)

              --budget <DOLLARS>
                  Dollars it may spend in all

              --requests-per-minute <N>
                  Requests it may make per minute

              --tokens-per-minute <N>
                  Tokens it may use per minute, input and output together

              --concurrent <N>
                  Calls it may have open at the same time

              --from <CIDR>
                  Addresses it may be used from: 10.0.0.0/8, 2001:db8::/32, 192.0.2.7; may be given several
                  times

              --environment <WORD>
                  The environment it is for: only a gateway with this `keys.environment` takes it

              --priority <PRIORITY>
                  How urgent its calls are, whatever they ask for

                  [possible values: interactive, standard, batch]

              --label <LABEL>
                  A label that all it sends carries: `untrusted`, or a category of what is private; may be
                  given several times

              --expires <SPAN|DATE>
                  When it ends: after a span like 30d, or where a date like 2027-01-31 begins (UTC)

              --json
                  Print JSON

          -h, --help
                  Print help (see a summary with '-h')

        Examples:
          KEY=$(backstop keys create ci)
          backstop keys create nightly --role clerk --budget-day 5 --budget 100 --priority batch
          backstop keys create laptop --model 'claude-haiku-*' --model mini --expires 30d
          backstop keys create web --environment prod --from 10.0.0.0/8 --requests-per-minute 600
          backstop keys create anna --approver --expires 30d
          backstop keys create wall --viewer --from 10.0.0.0/8
          backstop keys create shop --submit --agent writer --budget-day 5
          backstop keys create ci --json | jq -r .secret
    "#]]
    .assert_eq(&done.shown());
}

#[test]
fn a_code_is_explained() {
    let done = Place::new().run(&["explain", "bs3001"]);
    assert_eq!(done.code, 0);
    assert!(done.out.starts_with("# BS3001: "), "{}", done.out);
    let json = Place::new().run(&["explain", "--json"]);
    let codes: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(codes.as_array().unwrap().len(), backstop_call::Code::ALL.len());
}

#[test]
fn the_stack_is_explained_from_the_code() {
    let done = Place::new().run(&["explain", "stack"]);
    expect![[r#"
        exit 0
        --- stdout
        A model call passes these layers, from the top:

          record      appends what happened to the journal
          redact      takes secrets out of what is sent and what comes back
          route       finds the chain that the call asks for by name
          privacy     private text goes to local models only, or nowhere
          attempt     retries and fails over: one count, one deadline, one commit point
          breaker     keeps calls away from a target that fails
          validate    refuses what cannot work, and answers that break their protocol
          limit       keeps to requests and tokens per minute, and to calls at once
          budget      reserves the worst case of an attempt, and settles what it cost
          timeout     bounds one attempt: in all, to its first byte, between two chunks
          leaf        the provider: sends the request and reads the answer
    "#]]
    .assert_eq(&done.shown());
}
