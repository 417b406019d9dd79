-- Tell listeners words, when the transaction commits.
CREATE FUNCTION asyncstore_tell_words(words text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  said text := array_to_string(words, ' ');
BEGIN
  IF said <> '' AND asyncstore_watched() THEN
    PERFORM pg_notify('asyncstore', CASE WHEN length(said) < 7000 THEN said ELSE '*' END);
  END IF;
END $$;

-- Make commits of any kind, each wholly or not at all, one after the other. Items of `c_*` are changes and items of
-- `e_*` events, in the order of the commits that they belong to; the first commit is number 1.
--
-- Gives for each commit either one row that says why it was not made (`unknown`, `inactive`, `lost`, `expired`, `conflict`), or a
-- row for each change (`version`) and event (`event`, `duplicate`). What shows too late raises AS001 and undoes the
-- whole call: the caller then makes the commits one by one, where it can only be a conflict of that one. AS002 says that
-- the line of events did not move in time.
CREATE FUNCTION asyncstore_commit(
  at bigint,
  m_writer text[], m_operation bigint[], m_watcher bigint[], m_fence bigint[],
  c_commit int[], c_kind text[], c_asset bigint[], c_dag text[], c_run text[], c_task text[], c_map int[],
  c_key text[], c_text text[], c_expiry bigint[], c_if bigint[],
  e_commit int[], e_payload text[], e_key text[]
) RETURNS TABLE (commit int, part int, outcome text, number bigint, moment bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  commits int := coalesce(cardinality(m_operation), 0);
  changes int := coalesce(cardinality(c_commit), 0);
  events int := coalesce(cardinality(e_commit), 0);
  made boolean[] := array_fill(false, ARRAY[coalesce(cardinality(m_operation), 0)]);
  watched bigint[] := array_fill(NULL::bigint, ARRAY[coalesce(cardinality(m_operation), 0)]);
  next_change int := 1;
  next_event int := 1;
  first_change int;
  first_event int;
  instance bigint;
  fresh boolean;
  lease record;
  row_version bigint;
  row_expiry bigint;
  deactivated bigint;
  known bigint;
  next_id bigint;
  touched bigint;
BEGIN
  IF changes > 1 THEN
    -- In one order for all, before anything is written.
    PERFORM FROM asyncstore_watcher w WHERE w.id = ANY (m_watcher) ORDER BY w.id FOR NO KEY UPDATE;
    PERFORM FROM unnest(c_dag, c_run, c_task, c_map, c_key) AS c (dag, run, task, map, key)
      JOIN asyncstore_task_instance t
        ON t.dag_id = c.dag AND t.run_id = c.run AND t.task_id = c.task AND t.map_index = c.map
      JOIN asyncstore_task_state s ON s.task_instance_id = t.id AND s.key = c.key
      ORDER BY c.dag COLLATE "C", c.run COLLATE "C", c.task COLLATE "C", c.map, c.key COLLATE "C"
      FOR NO KEY UPDATE OF s;
    PERFORM FROM unnest(c_asset, c_key) AS c (asset, key)
      JOIN asyncstore_asset_state s ON s.asset_id = c.asset AND s.key = c.key
      ORDER BY c.asset, c.key COLLATE "C" FOR NO KEY UPDATE OF s;
  END IF;

  FOR m IN 1 .. commits LOOP
    commit := m;
    first_change := next_change;
    WHILE next_change <= changes AND c_commit[next_change] = m LOOP
      next_change := next_change + 1;
    END LOOP;
    first_event := next_event;
    WHILE next_event <= events AND e_commit[next_event] = m LOOP
      next_event := next_event + 1;
    END LOOP;
    outcome := NULL;
    part := 0;

    -- May it be made?
    IF m_watcher[m] IS NOT NULL THEN
      SELECT w.fence, w.asset_id, w.operation, w.last_event_id, w.triggerer_id, a.deactivated_at INTO lease
      FROM asyncstore_watcher w JOIN asyncstore_asset a ON a.id = w.asset_id
      WHERE w.id = m_watcher[m] FOR NO KEY UPDATE OF w;
      number := lease.fence;
      IF first_event < next_event AND lease.operation = m_operation[m] THEN
        -- Made before, whoever holds the lease now; the answer was lost on the way. Something is written, so that this
        -- answer waits for a synchronous standby, too.
        PERFORM pg_logical_emit_message(true, 'asyncstore', '');
        FOR c IN first_change .. next_change - 1 LOOP
          part := part + 1; outcome := 'version'; number := 0; moment := asyncstore_now(at); RETURN NEXT;
        END LOOP;
        part := part + 1; number := abs(lease.last_event_id); moment := asyncstore_now(at);
        outcome := CASE WHEN lease.last_event_id < 0 THEN 'duplicate' ELSE 'event' END;
        RETURN NEXT;
        CONTINUE;
      ELSIF lease IS NULL OR lease.fence IS NULL THEN
        outcome := 'unknown';
      ELSIF lease.fence <> m_fence[m] THEN
        outcome := 'lost';
      ELSIF lease.triggerer_id IS NOT NULL AND NOT EXISTS (
        -- Looked at behind the lock of the watcher, for that may have been waited for.
        SELECT FROM asyncstore_triggerer t WHERE t.id = lease.triggerer_id AND t.lease_until > asyncstore_now(at)
      ) THEN
        outcome := 'expired';
      ELSIF lease.deactivated_at IS NOT NULL THEN
        outcome := 'inactive';
      END IF;
      watched[m] := lease.asset_id;
    END IF;
    known := NULL;
    FOR c IN first_change .. next_change - 1 LOOP
      EXIT WHEN outcome IS NOT NULL;
      part := c - first_change + 1;
      IF c_asset[c] IS DISTINCT FROM known AND c_asset[c] IS NOT NULL THEN
        SELECT a.deactivated_at INTO deactivated FROM asyncstore_asset a WHERE a.id = c_asset[c];
        outcome := CASE WHEN NOT FOUND THEN 'unknown' WHEN deactivated IS NOT NULL THEN 'inactive' END;
        number := 0;
        known := c_asset[c];
      END IF;
      IF outcome IS NULL AND c_if[c] IS NOT NULL THEN
        number := asyncstore_version_of(at, c_asset[c], c_dag[c], c_run[c], c_task[c], c_map[c], c_key[c]);
        IF number <> c_if[c] AND NOT c_key[c] = ANY (c_key[first_change : c - 1]) THEN
          outcome := 'conflict';
        END IF;
      END IF;
    END LOOP;
    IF outcome IS NOT NULL THEN
      RETURN NEXT;
      CONTINUE;
    END IF;

    -- Make its changes.
    FOR c IN first_change .. next_change - 1 LOOP
      number := 0;
      fresh := false;
      IF c_kind[c] = 'put' AND c_asset[c] IS NOT NULL THEN
        IF c_if[c] IS NULL THEN
          INSERT INTO asyncstore_asset_state AS s (asset_id, key, value, version, updated_at, updated_by, operation)
          VALUES (c_asset[c], c_key[c], c_text[c], nextval('asyncstore_version'), asyncstore_now(at), m_writer[m],
            m_operation[m])
          ON CONFLICT (asset_id, key) DO UPDATE SET
            value = excluded.value, version = nextval('asyncstore_version'), updated_at = asyncstore_now(at),
            updated_by = excluded.updated_by, operation = excluded.operation
          RETURNING s.version, s.xmax = 0 INTO number, fresh;
        ELSIF c_if[c] = 0 THEN
          INSERT INTO asyncstore_asset_state AS s (asset_id, key, value, version, updated_at, updated_by, operation)
          VALUES (c_asset[c], c_key[c], c_text[c], nextval('asyncstore_version'), asyncstore_now(at), m_writer[m],
            m_operation[m])
          ON CONFLICT DO NOTHING RETURNING s.version, s.xmax = 0 INTO number, fresh;
        ELSE
          UPDATE asyncstore_asset_state s SET
            value = c_text[c], version = nextval('asyncstore_version'), updated_at = asyncstore_now(at),
            updated_by = m_writer[m], operation = m_operation[m]
          WHERE s.asset_id = c_asset[c] AND s.key = c_key[c] AND s.version = c_if[c]
          RETURNING s.version INTO number;
        END IF;
      ELSIF c_kind[c] = 'put' THEN
        instance := asyncstore_task_instance_id(c_dag[c], c_run[c], c_task[c], c_map[c]);
        IF coalesce(c_if[c], 0) = 0 THEN
          INSERT INTO asyncstore_task_state AS s
            (task_instance_id, key, value, version, updated_at, updated_by, operation, expires_at)
          VALUES (instance, c_key[c], c_text[c], nextval('asyncstore_version'), asyncstore_now(at), m_writer[m],
            m_operation[m], c_expiry[c])
          ON CONFLICT (task_instance_id, key) DO UPDATE SET
            value = excluded.value, version = nextval('asyncstore_version'), updated_at = asyncstore_now(at),
            updated_by = excluded.updated_by, operation = excluded.operation, expires_at = excluded.expires_at
          WHERE c_if[c] IS NULL OR s.expires_at <= asyncstore_now(at)
          RETURNING s.version, s.xmax = 0 INTO number, fresh;
        ELSE
          UPDATE asyncstore_task_state s SET
            value = c_text[c], version = nextval('asyncstore_version'), updated_at = asyncstore_now(at),
            updated_by = m_writer[m], operation = m_operation[m], expires_at = c_expiry[c]
          WHERE s.task_instance_id = instance AND s.key = c_key[c] AND s.version = c_if[c]
            AND (s.expires_at IS NULL OR s.expires_at > asyncstore_now(at))
          RETURNING s.version INTO number;
        END IF;
      ELSIF c_kind[c] = 'delete' AND c_asset[c] IS NOT NULL THEN
        DELETE FROM asyncstore_asset_state s WHERE s.asset_id = c_asset[c] AND s.key = c_key[c];
      ELSIF c_kind[c] = 'delete' THEN
        DELETE FROM asyncstore_task_state s USING asyncstore_task_instance t
        WHERE t.dag_id = c_dag[c] AND t.run_id = c_run[c] AND t.task_id = c_task[c] AND t.map_index = c_map[c]
          AND s.task_instance_id = t.id AND s.key = c_key[c] RETURNING t.id INTO instance;
        IF FOUND THEN
          PERFORM asyncstore_drop_empty(ARRAY[instance]);
        END IF;
      ELSIF c_asset[c] IS NOT NULL THEN
        DELETE FROM asyncstore_asset_state s WHERE s.asset_id = c_asset[c];
      ELSE
        DELETE FROM asyncstore_task_instance t
        WHERE t.dag_id = c_dag[c] AND t.run_id = c_run[c] AND t.task_id = c_task[c]
          AND (c_kind[c] = 'clear all' OR t.map_index = c_map[c]);
      END IF;
      IF number IS NULL THEN
        number := asyncstore_version_of(at, c_asset[c], c_dag[c], c_run[c], c_task[c], c_map[c], c_key[c]);
        RAISE SQLSTATE 'AS001' USING
          MESSAGE = 'a version that was checked changed before the write',
          DETAIL = number, COLUMN = c_key[c], CONSTRAINT = c_if[c];
      END IF;
      moment := asyncstore_now(at);
      IF fresh AND c_asset[c] IS NOT NULL THEN
        UPDATE asyncstore_asset_state s SET version = nextval('asyncstore_version'), updated_at = moment
        WHERE s.asset_id = c_asset[c] AND s.key = c_key[c] RETURNING s.version INTO number;
      ELSIF fresh THEN
        UPDATE asyncstore_task_state s SET version = nextval('asyncstore_version'), updated_at = moment
        WHERE s.task_instance_id = instance AND s.key = c_key[c] RETURNING s.version INTO number;
      END IF;
      part := c - first_change + 1;
      outcome := 'version';
      RETURN NEXT;
    END LOOP;
    made[m] := true;
  END LOOP;

  -- Events last: whoever holds the revision waits for nobody.
  FOR e IN 1 .. events LOOP
    commit := e_commit[e];
    CONTINUE WHEN NOT made[commit];
    IF next_id IS NULL THEN
      BEGIN
        UPDATE asyncstore_revision SET value = value + events RETURNING value - events + 1 INTO next_id;
      EXCEPTION WHEN lock_not_available THEN
        RAISE SQLSTATE 'AS002' USING MESSAGE = 'another transaction records events';
      END;
    END IF;
    outcome := 'event';
    number := next_id;
    moment := asyncstore_now(at);
    touched := 1;
    IF e_key[e] IS NOT NULL THEN
      INSERT INTO asyncstore_event_key (watcher_id, key, event_id) VALUES (m_watcher[commit], e_key[e], next_id)
      ON CONFLICT DO NOTHING;
      GET DIAGNOSTICS touched = ROW_COUNT;
      IF touched = 0 THEN
        outcome := 'duplicate';
        SELECT k.event_id INTO number FROM asyncstore_event_key k
        WHERE k.watcher_id = m_watcher[commit] AND k.key = e_key[e];
      END IF;
    END IF;
    IF touched = 1 THEN
      INSERT INTO asyncstore_event (id, asset_id, watcher_id, payload, key, created_at)
      VALUES (next_id, watched[commit], m_watcher[commit], e_payload[e], e_key[e], moment);
      next_id := next_id + 1;
    END IF;
    -- Less than nothing for a duplicate: whoever finds it later tells the same.
    UPDATE asyncstore_watcher SET operation = m_operation[commit],
      last_event_id = CASE outcome WHEN 'duplicate' THEN -number ELSE number END,
      last_event_at = CASE outcome WHEN 'duplicate' THEN last_event_at ELSE moment END,
      minute = moment / 60000000,
      minute_events = touched + CASE WHEN minute = moment / 60000000 THEN minute_events ELSE 0 END,
      minute_before = CASE moment / 60000000 - minute WHEN 0 THEN minute_before WHEN 1 THEN minute_events ELSE 0 END
    WHERE id = m_watcher[commit];
    part := 1000000 + e;
    RETURN NEXT;
  END LOOP;

  IF changes > 0 THEN
    PERFORM asyncstore_tell(c_asset, c_dag, c_run, c_task, c_key);
  END IF;
  IF next_id IS NOT NULL THEN
    PERFORM asyncstore_tell_words(ARRAY(SELECT DISTINCT 'e' || asset FROM unnest(watched) asset WHERE asset IS NOT NULL));
  END IF;
END $$;
