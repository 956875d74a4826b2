// npm jsonwebtoken as countless Node services use it: jwt.sign(claims, SECRET, { expiresIn: '1h' }). One job, or several.
import jwt from 'jsonwebtoken';
import { readFileSync } from 'node:fs';

const job = JSON.parse(readFileSync(0, 'utf8'));
const sign = ({ claims, secret, options }) => jwt.sign(claims, secret, options);
console.log(JSON.stringify(job.jobs ? { tokens: job.jobs.map(sign) } : { token: sign(job) }));
