// npm jsonwebtoken as countless Node services use it: jwt.sign(claims, SECRET, { expiresIn: '1h' }).
import jwt from 'jsonwebtoken';
import { readFileSync } from 'node:fs';

const job = JSON.parse(readFileSync(0, 'utf8'));
console.log(JSON.stringify({ token: jwt.sign(job.claims, job.secret, job.options) }));
