import fc from 'fast-check';

// The same cases in every run, so that a green run says something about the next; the long runs use seeds of their own.
fc.configureGlobal({ seed: Number(process.env['FC_SEED'] ?? 20261122) });
