-- What people query. Names of columns are an interface (docs/sql.md): times are text in RFC 3339, UTC, cut to milliseconds,
-- with nanoseconds since 1970 beside it; amounts are decimal dollars as text, with nano-dollars beside it.

CREATE VIEW events AS
SELECT
    e.position,
    s.name AS stream,
    e.seq,
    strftime('%Y-%m-%dT%H:%M:%fZ', (e.at / 1000000) / 1000.0, 'unixepoch') AS at,
    e.at AS at_ns,
    e.kind,
    e.v AS version,
    e.epoch,
    lower(hex(e.link)) AS hash,
    e.body
FROM events_raw e JOIN streams s ON s.id = e.stream;

CREATE VIEW runs AS
SELECT
    r.run,
    r.summary ->> '$.task' AS task,
    r.agent,
    r.role,
    r.model,
    r.status,
    r.summary ->> '$.parked' AS waits_for,
    r.summary ->> '$.dry_run' AS dry_run,
    strftime('%Y-%m-%dT%H:%M:%fZ', (r.created / 1000000) / 1000.0, 'unixepoch') AS created,
    r.created AS created_ns,
    strftime('%Y-%m-%dT%H:%M:%fZ', ((r.summary ->> '$.updated') / 1000000) / 1000.0, 'unixepoch') AS updated,
    r.summary ->> '$.updated' AS updated_ns,
    (coalesce(r.summary ->> '$.ended', r.summary ->> '$.updated') - r.created) / 1000000 AS duration_ms,
    r.summary ->> '$.calls' AS calls,
    r.summary ->> '$.failed_attempts' AS failed_attempts,
    r.summary ->> '$.tool_calls' AS tool_calls,
    r.summary ->> '$.usage.input_tokens' AS input_tokens,
    r.summary ->> '$.usage.output_tokens' AS output_tokens,
    r.summary ->> '$.usage.cache_read_tokens' AS cache_read_tokens,
    r.summary ->> '$.usage.cache_write_tokens' AS cache_write_tokens,
    printf('%d.%09d', (r.summary ->> '$.cost') / 1000000000, (r.summary ->> '$.cost') % 1000000000) AS cost_usd,
    r.summary ->> '$.cost' AS cost_nanos,
    r.summary ->> '$.code' AS code,
    r.summary ->> '$.message' AS message,
    strftime('%Y-%m-%dT%H:%M:%fZ', ((r.summary ->> '$.erased') / 1000000) / 1000.0, 'unixepoch') AS erased,
    r.summary ->> '$.erased' AS erased_ns
FROM runs_raw r;

-- Calls that ended. Inside runs the call's first event says what was asked, and the run who asked.
CREATE VIEW calls AS
WITH ended AS (
    SELECT e.*, s.name, iif(s.name LIKE 'run/%', substr(s.name, 5), NULL) AS run
    FROM events_raw e JOIN streams s ON s.id = e.stream
    WHERE e.kind IN ('call.finished', 'call.failed')
), asked AS (
    SELECT
        c.*,
        coalesce(c.body ->> '$.asked.model', (
            SELECT b.body ->> '$.model' FROM events_raw b
            WHERE b.stream = c.stream AND b.seq < c.seq AND b.kind = 'call.started'
                AND b.body ->> '$.call' = c.body ->> '$.call'
            ORDER BY b.seq DESC LIMIT 1)) AS model,
        coalesce(c.body ->> '$.asked.key', iif(c.run IS NULL, NULL, (
            SELECT b.body ->> '$.key' FROM events_raw b
            WHERE b.stream = c.stream AND b.seq < c.seq AND b.kind = 'call.started'
                AND b.body ->> '$.call' = c.body ->> '$.call'
            ORDER BY b.seq DESC LIMIT 1))) AS key
    FROM ended c
)
SELECT
    a.body ->> '$.call' AS call,
    a.run,
    coalesce(r.agent, '') AS agent,
    coalesce(a.body ->> '$.asked.role', r.summary ->> '$.role', '') AS role,
    coalesce(a.key, '') AS key,
    coalesce(a.model, '') AS model,
    coalesce(a.body ->> '$.provider', a.body ->> '$.failure.detail.provider',
        a.body ->> '$.failure.detail.attempts[#-1].provider', '') AS provider,
    a.body ->> '$.model' AS answered_by,
    coalesce(a.body ->> '$.failure.kind', 'ok') AS outcome,
    strftime('%Y-%m-%dT%H:%M:%fZ', (a.at / 1000000) / 1000.0, 'unixepoch') AS ended,
    a.at AS ended_ns,
    ifnull((a.body ->> '$.duration.secs') * 1000 + (a.body ->> '$.duration.nanos') / 1000000,
        (a.body ->> '$.duration') / 1000000) AS duration_ms,
    ifnull((a.body ->> '$.first_token.secs') * 1000 + (a.body ->> '$.first_token.nanos') / 1000000,
        (a.body ->> '$.first_token') / 1000000) AS first_token_ms,
    iif(json_type(a.body, '$.attempts') = 'object', 1, json_array_length(
        coalesce(a.body -> '$.attempts', a.body -> '$.failure.detail.attempts', '[]'))) AS attempts,
    coalesce(a.body ->> '$.usage.input_tokens', 0) AS input_tokens,
    coalesce(a.body ->> '$.usage.output_tokens', 0) AS output_tokens,
    coalesce(a.body ->> '$.usage.cache_read_tokens', 0) AS cache_read_tokens,
    coalesce(a.body ->> '$.usage.cache_write_tokens', 0) AS cache_write_tokens,
    printf('%d.%09d', (a.body ->> '$.cost') / 1000000000, (a.body ->> '$.cost') % 1000000000) AS cost_usd,
    a.body ->> '$.cost' AS cost_nanos,
    a.body ->> '$.failure.detail.code' AS code,
    iif(json_type(a.body, '$.failure.detail.message') = 'object', '(erased)',
        a.body ->> '$.failure.detail.message') AS message,
    a.position
FROM asked a LEFT JOIN runs_raw r ON r.run = a.run;

-- Attempts at a provider: those that failed as they were told, and the one that answered at the end of its call.
CREATE VIEW attempts AS
WITH told AS (
    SELECT e.position, e.stream, e.at, e.body ->> '$.call' AS call, e.body -> '$.attempt' AS attempt
    FROM events_raw e WHERE e.kind = 'call.attempt-failed'
    UNION ALL
    SELECT e.position, e.stream, e.at, e.body ->> '$.call', e.body -> '$.attempts[#-1]'
    FROM events_raw e
    WHERE e.kind = 'call.finished' AND e.body ->> '$.attempts[#-1].attempt' IS NOT NULL
        AND e.body ->> '$.attempts[#-1].failure' IS NULL
    UNION ALL
    -- An only attempt leaves to its call what that says.
    SELECT e.position, e.stream, e.at, e.body ->> '$.call', json_patch(
        json_object('attempt', 1, 'provider', e.body ->> '$.provider', 'model', e.body ->> '$.model',
            'cost', e.body ->> '$.cost'),
        e.body -> '$.attempts')
    FROM events_raw e
    WHERE e.kind = 'call.finished' AND json_type(e.body, '$.attempts') = 'object'
)
SELECT
    t.call,
    t.attempt ->> '$.attempt' AS attempt,
    iif(s.name LIKE 'run/%', substr(s.name, 5), NULL) AS run,
    t.attempt ->> '$.provider' AS provider,
    t.attempt ->> '$.model' AS model,
    coalesce(t.attempt ->> '$.failure', 'ok') AS outcome,
    strftime('%Y-%m-%dT%H:%M:%fZ', ((t.attempt ->> '$.started') / 1000000) / 1000.0, 'unixepoch') AS started,
    t.attempt ->> '$.started' AS started_ns,
    ifnull((t.attempt ->> '$.duration.secs') * 1000 + (t.attempt ->> '$.duration.nanos') / 1000000,
        (t.attempt ->> '$.duration') / 1000000) AS duration_ms,
    printf('%d.%09d', (t.attempt ->> '$.cost') / 1000000000, (t.attempt ->> '$.cost') % 1000000000) AS cost_usd,
    t.attempt ->> '$.cost' AS cost_nanos,
    t.attempt ->> '$.code' AS code,
    iif(json_type(t.attempt, '$.message') = 'object', '(erased)', t.attempt ->> '$.message') AS message,
    t.position
FROM told t JOIN streams s ON s.id = t.stream;

-- Tool calls: one row for each time that one came back, or that it became unknown whether it happened.
CREATE VIEW tool_calls AS
WITH ended AS (
    SELECT e.*, substr(s.name, 5) AS run
    FROM events_raw e JOIN streams s ON s.id = e.stream
    WHERE e.kind IN ('tool.finished', 'tool.unknown') AND s.name LIKE 'run/%'
), planned AS (
    SELECT
        e.*,
        (SELECT b.body FROM events_raw b
            WHERE b.stream = e.stream AND b.seq < e.seq AND b.kind = 'tool.planned'
                AND b.body ->> '$.id' = e.body ->> '$.id'
            ORDER BY b.seq DESC LIMIT 1) AS plan
    FROM ended e
)
SELECT
    p.body ->> '$.id' AS id,
    p.run,
    r.agent,
    r.summary ->> '$.role' AS role,
    coalesce(p.plan ->> '$.tool', '') AS tool,
    p.plan ->> '$.class' AS class,
    p.plan ->> '$.effect' AS effect,
    CASE WHEN p.kind = 'tool.unknown' THEN 'in-doubt' WHEN p.body ->> '$.is_error' THEN 'error' ELSE 'ok' END AS outcome,
    strftime('%Y-%m-%dT%H:%M:%fZ', (p.at / 1000000) / 1000.0, 'unixepoch') AS ended,
    p.at AS ended_ns,
    ifnull((p.body ->> '$.duration.secs') * 1000 + (p.body ->> '$.duration.nanos') / 1000000,
        (p.body ->> '$.duration') / 1000000) AS duration_ms,
    p.position
FROM planned p LEFT JOIN runs_raw r ON r.run = p.run;

-- Questions to people, with their answers where there is one.
CREATE VIEW approvals AS
WITH asked AS (
    SELECT e.*, substr(s.name, 5) AS run
    FROM events_raw e JOIN streams s ON s.id = e.stream
    WHERE e.kind = 'approval.requested'
), answered AS (
    SELECT
        a.*,
        (SELECT b.position FROM events_raw b
            WHERE b.stream = a.stream AND b.seq > a.seq AND b.kind = 'approval.decided'
                AND b.body ->> '$.approval' = a.body ->> '$.approval'
            ORDER BY b.seq LIMIT 1) AS decision,
        (SELECT b.body ->> '$.tool' FROM events_raw b
            WHERE b.stream = a.stream AND b.seq < a.seq AND b.kind = 'tool.planned'
                AND b.body ->> '$.id' = a.body ->> '$.id'
            ORDER BY b.seq DESC LIMIT 1) AS tool
    FROM asked a
)
SELECT
    q.body ->> '$.approval' AS approval,
    q.run,
    r.agent,
    r.summary ->> '$.role' AS role,
    coalesce(q.tool, '') AS tool,
    iif(json_type(q.body, '$.why') = 'object', '(erased)', q.body ->> '$.why') AS why,
    strftime('%Y-%m-%dT%H:%M:%fZ', (q.at / 1000000) / 1000.0, 'unixepoch') AS asked,
    q.at AS asked_ns,
    strftime('%Y-%m-%dT%H:%M:%fZ', ((q.body ->> '$.expires') / 1000000) / 1000.0, 'unixepoch') AS expires,
    q.body ->> '$.expires' AS expires_ns,
    d.body ->> '$.decision.answer' AS answer,
    strftime('%Y-%m-%dT%H:%M:%fZ', (d.at / 1000000) / 1000.0, 'unixepoch') AS decided,
    d.at AS decided_ns,
    d.body ->> '$.by' AS decided_by,
    d.body ->> '$.channel' AS channel,
    q.position
FROM answered q
LEFT JOIN events_raw d ON d.position = q.decision
LEFT JOIN runs_raw r ON r.run = q.run;

-- What budgets hold: the budgets as they were last asked, one row for each day of those that are a day's.
CREATE VIEW budgets AS
SELECT
    iif(instr(account, '@') > 0, substr(account, 1, instr(account, '@') - 1), account) AS account,
    iif(instr(account, '@') > 0, date(substr(account, instr(account, '@') + 1) * 86400, 'unixepoch'), NULL) AS day,
    printf('%d.%09d', limit_seen / 1000000000, limit_seen % 1000000000) AS limit_usd,
    limit_seen AS limit_nanos,
    printf('%d.%09d', (settled + suspense) / 1000000000, (settled + suspense) % 1000000000) AS spent_usd,
    settled + suspense AS spent_nanos,
    printf('%d.%09d', suspense / 1000000000, suspense % 1000000000) AS suspense_usd,
    suspense AS suspense_nanos,
    warned AS warned_percent
FROM accounts WHERE limit_seen > 0;

-- What calls cost, by day and by who asked for what: from what is counted, so that it reads no event. As new as the last
-- time that somebody counted: `backstop serve` does so every second, `backstop stats` and `backstop query` when they begin.
CREATE VIEW spend_by_day AS
SELECT
    date(n.start, 'unixepoch') AS day,
    s.labels ->> '$[0]' AS agent,
    s.labels ->> '$[1]' AS role,
    s.labels ->> '$[2]' AS model,
    s.labels ->> '$[3]' AS provider,
    s.labels ->> '$[4]' AS key,
    sum(n.count) AS calls,
    sum(iif(s.labels ->> '$[5]' = 'ok', 0, n.count)) AS failed_calls,
    sum(n.input) AS input_tokens,
    sum(n.output) AS output_tokens,
    sum(n.cache_read) AS cache_read_tokens,
    sum(n.cache_write) AS cache_write_tokens,
    printf('%d.%09d', sum(n.cost) / 1000000000, sum(n.cost) % 1000000000) AS cost_usd,
    sum(n.cost) AS cost_nanos
FROM numbers n JOIN series s ON s.id = n.series
WHERE n.grain = 86400 AND s.family = 'calls'
GROUP BY 1, 2, 3, 4, 5, 6;

-- Tasks of the queue, each with its newest run.
CREATE VIEW tasks AS
SELECT
    t.task,
    t.state,
    t.owner IS NOT NULL AS working,
    r.run,
    r.agent,
    t.role,
    t.model,
    t.key,
    r.summary ->> '$.queue.priority' AS priority,
    r.summary ->> '$.queue.tried' AS tried,
    r.summary ->> '$.queue.terms.tries' AS tries,
    strftime('%Y-%m-%dT%H:%M:%fZ', (t.due / 1000000) / 1000.0, 'unixepoch') AS due,
    t.due AS due_ns
FROM tasks_raw t JOIN runs_raw r ON r.stream = t.stream;

-- Tasks that were made of jobs, each with its newest run. Two processes may have told of the same one.
CREATE VIEW job_runs AS
SELECT
    e.body ->> '$.job' AS job,
    strftime('%Y-%m-%dT%H:%M:%fZ', ((e.body ->> '$.time') / 1000000) / 1000.0, 'unixepoch') AS time,
    e.body ->> '$.time' AS time_ns,
    strftime('%Y-%m-%dT%H:%M:%fZ', (e.at / 1000000) / 1000.0, 'unixepoch') AS began,
    e.at AS began_ns,
    e.body ->> '$.by' AS asked_by,
    e.body ->> '$.task' AS task,
    r.run,
    t.state,
    r.status,
    printf('%d.%09d', (r.summary ->> '$.cost') / 1000000000, (r.summary ->> '$.cost') % 1000000000) AS cost_usd,
    r.summary ->> '$.cost' AS cost_nanos,
    (coalesce(r.summary ->> '$.ended', r.summary ->> '$.updated') - r.created) / 1000000 AS duration_ms,
    r.summary ->> '$.code' AS code,
    r.summary ->> '$.message' AS message,
    e.position
FROM events_raw e
JOIN streams s ON s.id = e.stream
LEFT JOIN tasks_raw t ON t.task = e.body ->> '$.task'
JOIN runs_raw r ON iif(t.stream IS NULL, r.run = e.body ->> '$.run', r.stream = t.stream)
WHERE s.name = 'jobs' AND e.kind = 'job.started' AND NOT EXISTS (
    SELECT 1 FROM events_raw b
    WHERE b.stream = e.stream AND b.seq < e.seq AND b.kind = 'job.started'
        AND b.body ->> '$.task' = e.body ->> '$.task');
