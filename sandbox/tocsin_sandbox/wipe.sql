-- The part of Wipe's database that its incident page works with. Published: jobs(queue, status); certificates(id,
-- tenant_id, organization_id, status, anchor_chain_id, anchor_tx_hash, created_at). Every other name is the sandbox's
-- own and is therefore configuration for whoever reads it.

CREATE TABLE tenants (id uuid PRIMARY KEY, name text NOT NULL);

CREATE TABLE jobs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue text NOT NULL,
    status text NOT NULL DEFAULT 'queued',          -- queued, running, done
    payload jsonb NOT NULL DEFAULT '{}',
    attempts integer NOT NULL DEFAULT 0,
    claimed_by text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX jobs_open ON jobs (queue, status, created_at) WHERE status <> 'done';

CREATE TABLE dead_letter_jobs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id bigint,
    queue text NOT NULL,
    payload jsonb NOT NULL DEFAULT '{}',
    error text NOT NULL,
    attempts integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX dead_letter_jobs_newest ON dead_letter_jobs (queue, created_at);

CREATE TABLE proofs (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL,
    organization_id uuid NOT NULL,
    status text NOT NULL,
    object_key text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX proofs_open ON proofs (status, created_at);

CREATE TABLE certificates (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL,
    organization_id uuid NOT NULL,
    proof_id uuid,
    status text NOT NULL,
    anchor_chain_id text NOT NULL DEFAULT '',
    anchor_tx_hash text DEFAULT '',
    pdf_key text NOT NULL DEFAULT '',
    pdf_sha256 text NOT NULL DEFAULT '',
    json_key text NOT NULL DEFAULT '',
    json_sha256 text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX certificates_newest ON certificates (created_at DESC);
CREATE INDEX certificates_unanchored ON certificates (created_at) WHERE anchor_tx_hash = '' OR anchor_tx_hash IS NULL;

CREATE TABLE license_grants (
    grant_id text PRIMARY KEY,
    tenant_id uuid NOT NULL,
    grant_type text NOT NULL DEFAULT 'QUANTITY',
    license_type text NOT NULL DEFAULT 'desktop',
    quantity integer NOT NULL,
    valid_from date NOT NULL,
    valid_until date NOT NULL,
    revoked_at timestamptz
);

CREATE TABLE license_allocations (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    grant_id text NOT NULL REFERENCES license_grants,
    parent_id bigint REFERENCES license_allocations,
    organization_id uuid NOT NULL,
    license_type text NOT NULL DEFAULT 'desktop',
    quantity integer NOT NULL,
    consumed integer NOT NULL DEFAULT 0
);

CREATE TABLE verification_logs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    result text NOT NULL,                            -- VALID, UNKNOWN_CERTIFICATE, RATE_LIMITED, ANOMALY
    source_ip inet NOT NULL,
    asked_for text NOT NULL DEFAULT '',              -- the certificate
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX verification_logs_recent ON verification_logs (created_at, result);

CREATE TABLE monthly_reports (period date PRIMARY KEY, object_key text NOT NULL DEFAULT '');
INSERT INTO monthly_reports (period) VALUES (date_trunc('month', now() - interval '1 month'));

CREATE TABLE maintenance_runs (finished_at timestamptz NOT NULL);
INSERT INTO maintenance_runs VALUES (now());

-- The local setup also seeds PGMQ's queues under underscore names; real traffic is in jobs, these stay empty.
CREATE SCHEMA pgmq;
CREATE TABLE pgmq.meta (queue_name text PRIMARY KEY, created_at timestamptz NOT NULL DEFAULT now());
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['proofs_validated', 'certificates_to_anchor', 'notifications_to_send',
                                'billing_exports', 'reports_monthly', 'proofs_retry'] LOOP
        INSERT INTO pgmq.meta (queue_name) VALUES (name);
        EXECUTE format('CREATE TABLE pgmq.%I (msg_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            read_ct integer NOT NULL DEFAULT 0, enqueued_at timestamptz NOT NULL DEFAULT now(),
            vt timestamptz NOT NULL DEFAULT now(), message jsonb)', 'q_' || name);
    END LOOP;
END $$;

INSERT INTO tenants VALUES ('11111111-1111-4111-8111-111111111111', 'Practice Tenant');
INSERT INTO license_grants (grant_id, tenant_id, quantity, valid_from, valid_until)
    VALUES ('GRANT-PRACTICE', '11111111-1111-4111-8111-111111111111', 10000, current_date - 30, current_date + 335);
INSERT INTO license_allocations (grant_id, organization_id, quantity)
    VALUES ('GRANT-PRACTICE', '22222222-2222-4222-8222-222222222222', 8000);
INSERT INTO license_allocations (grant_id, parent_id, organization_id, quantity)
    VALUES ('GRANT-PRACTICE', 1, '33333333-3333-4333-8333-333333333333', 5000);
